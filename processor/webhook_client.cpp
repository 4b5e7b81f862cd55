#include "processor/webhook_client.hpp"

#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <limits>
#include <optional>
#include <set>
#include <stdexcept>
#include <thread>

#include "effects/webhook_url.hpp"
#include "processor/host_lookup.hpp"
#include "spillway/version.hpp"
#include "sse/utf8.hpp"

namespace spillway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr auto no_throw = asio::as_tuple(asio::use_awaitable);

constexpr std::uint32_t most_header_bytes = 16 * 1024;
constexpr std::size_t most_body_bytes = 64 * 1024;  // what is read of an answer
constexpr std::size_t most_text_bytes = 4 * 1024;   // what is kept of it
constexpr std::size_t longest_character = 4;        // so that the cut is between characters
constexpr std::size_t most_value_bytes = 512;       // of a header that is kept
constexpr int most_interim_answers = 8;             // 1xx, before the answer itself

using Stream = beast::tcp_stream;
using TlsStream = ssl::stream<beast::tcp_stream&>;

std::string seconds(milliseconds duration) {
  return duration.count() % 1000 == 0 ? std::to_string(duration.count() / 1000) + " s"
                                      : std::to_string(duration.count()) + " ms";
}

// Fit for a text column and for a log line.
std::string clean(std::string_view text, std::size_t most) {
  std::string repaired = sse::repair_utf8(text);
  std::replace(repaired.begin(), repaired.end(), '\0', ' ');
  return std::string(sse::cut_utf8(repaired, most));
}

// One request: what it holds, and how to end it early.
struct Exchange {
  explicit Exchange(asio::io_context& context)
      : timer(std::make_shared<asio::steady_timer>(context)), stream(context) {}

  void cut_off() {
    cut = true;
    timer->expires_at(steady_clock::now());
    stream.close();
  }

  std::shared_ptr<asio::steady_timer> timer;  // of the look-up
  Stream stream;
  bool cut = false;
};

http::request<http::string_body> message_of(const WebhookUrl& url, WebhookRequest& request) {
  http::request<http::string_body> message(http::verb::post, url.target, 11);
  message.set(http::field::content_type, "application/json");
  message.set(http::field::user_agent, "spillway/" SPILLWAY_VERSION);
  for (const auto& [name, value] : request.headers) message.set(name, value);
  message.set(http::field::host, url.authority());
  message.keep_alive(false);
  message.body() = std::move(request.body);
  message.prepare_payload();
  return message;
}

// The status decides: once it is there, trouble with the body does not undo the delivery.
template <typename AnyStream>
asio::awaitable<error_code> talk(AnyStream& stream, http::request<http::string_body>& message,
                                 WebhookAnswer& answer) {
  auto [write_error, written] = co_await http::async_write(stream, message, no_throw);
  static_cast<void>(written);
  // A target may answer, and close, without having read everything.
  beast::flat_buffer buffer;
  std::optional<http::response_parser<http::buffer_body>> parser;
  for (int interim = 0; interim <= most_interim_answers; ++interim) {
    parser.emplace();
    parser->header_limit(most_header_bytes);
    parser->body_limit(std::numeric_limits<std::uint64_t>::max());
    auto [error, read] = co_await http::async_read_header(stream, buffer, *parser, no_throw);
    static_cast<void>(read);
    if (error) co_return write_error ? write_error : error;
    const unsigned status = parser->get().result_int();
    if (status >= 200 || status == 101) break;
  }
  const auto& head = parser->get();
  answer.status = static_cast<int>(head.result_int());
  const auto header = [&](http::field field) {
    const auto value = head[field];
    return clean({value.data(), value.size()}, most_value_bytes);
  };
  answer.retry_after = header(http::field::retry_after);
  answer.location = header(http::field::location);

  std::string text;
  std::array<char, 8192> chunk{};
  for (std::size_t total = 0; !parser->is_done() && total < most_body_bytes;) {
    parser->get().body().data = chunk.data();
    parser->get().body().size = chunk.size();
    parser->get().body().more = true;
    auto [error, read] = co_await http::async_read(stream, buffer, *parser, no_throw);
    static_cast<void>(read);
    const std::size_t got = chunk.size() - parser->get().body().size;
    total += got;
    constexpr std::size_t enough = most_text_bytes + longest_character;
    if (text.size() < enough) text.append(chunk.data(), std::min(got, enough - text.size()));
    if (error && error != http::error::need_buffer) break;
  }
  answer.body = clean(text, most_text_bytes);
  co_return error_code();
}

}  // namespace

struct WebhookClient::Impl {
  explicit Impl(WebhookClientOptions given) : options(std::move(given)) {
    tls.set_default_verify_paths();
    tls.set_verify_mode(ssl::verify_peer);
    if (SSL_CTX_set_min_proto_version(tls.native_handle(), TLS1_2_VERSION) != 1)
      throw std::runtime_error("TLS 1.2 cannot be set as the least version");
    thread = std::thread([this] { context.run(); });
  }

  asio::awaitable<void> serve(WebhookRequest request, Done done) {
    WebhookAnswer answer;
    Exchange exchange(context);
    exchanges.insert(&exchange);
    if (stopping) exchange.cut = true;
    try {
      if (!exchange.cut) co_await carry_out(exchange, request, answer);
    } catch (const std::exception& error) {
      answer.error = error.what();
    }
    exchanges.erase(&exchange);
    exchange.stream.close();
    if (!exchange.cut) done(std::move(answer));
  }

  asio::awaitable<void> carry_out(Exchange& exchange, WebhookRequest& request,
                                  WebhookAnswer& answer) {
    const auto begin = steady_clock::now();
    const auto deadline = begin + options.timeout;
    const auto connected_by = std::min(deadline, begin + options.connect_timeout);
    const std::string no_connection =
        "no connection within " + seconds(std::min(options.timeout, options.connect_timeout));
    WebhookUrl url;
    if (!parse_webhook_url(request.url, url, answer.error)) {
      answer.error = "the URL " + answer.error;
      answer.refused = true;
      co_return;
    }

    const FoundHost found = co_await look_up_host(url.host, exchange.timer, connected_by);
    if (exchange.cut) co_return;
    if (!found.error.empty()) {
      answer.error = "looking up " + url.host + ": " + found.error;
      co_return;
    }
    // One address that is refused is enough: which of them is tried first is the name server's say.
    std::vector<asio::ip::tcp::endpoint> endpoints;
    for (const auto& address : found.addresses) {
      if (const std::string kind = options.policy.refusal(address); !kind.empty()) {
        const std::string text = address.to_string();
        answer.error = url.host + (text == url.host ? "" : " is " + text) + ", " + kind +
                       ": webhooks may not go there unless the worker is started with"
                       " --webhook-allow " +
                       text;
        answer.refused = true;
        co_return;
      }
      endpoints.emplace_back(address, url.port);
    }

    Stream& stream = exchange.stream;
    stream.expires_at(connected_by);
    {
      auto [error, endpoint] = co_await stream.async_connect(endpoints, no_throw);
      static_cast<void>(endpoint);
      if (error) {
        answer.error =
            error == beast::error::timeout ? no_connection : "connecting: " + error.message();
        co_return;
      }
    }
    error_code ignored;
    stream.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    http::request<http::string_body> message = message_of(url, request);
    error_code failure;
    if (url.tls) {
      TlsStream secure(stream, tls);
      error_code not_an_address;
      static_cast<void>(asio::ip::make_address(url.host, not_an_address));
      if (not_an_address && SSL_set_tlsext_host_name(secure.native_handle(), url.host.c_str()) != 1)
        throw std::runtime_error("TLS: the host name was not taken");
      secure.set_verify_callback(ssl::host_name_verification(url.host));
      auto [error] = co_await secure.async_handshake(ssl::stream_base::client, no_throw);
      if (error) {
        const long verified = SSL_get_verify_result(secure.native_handle());
        answer.error = error == beast::error::timeout ? no_connection
                       : verified != X509_V_OK ? std::string("TLS: the certificate is refused: ") +
                                                     X509_verify_cert_error_string(verified)
                                               : "TLS: " + error.message();
        co_return;
      }
      stream.expires_at(deadline);
      failure = co_await talk(secure, message, answer);
    } else {
      stream.expires_at(deadline);
      failure = co_await talk(stream, message, answer);
    }
    if (failure == beast::error::timeout)
      answer.error = "no answer within " + seconds(options.timeout);
    else if (failure)
      answer.error = "no answer: " + failure.message();
  }

  WebhookClientOptions options;
  ssl::context tls{ssl::context::tls_client};
  asio::io_context context{1};
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work{
      context.get_executor()};
  bool stopping = false;          // on the thread
  std::set<Exchange*> exchanges;  // on the thread
  std::thread thread;
};

WebhookClient::WebhookClient(WebhookClientOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}

WebhookClient::~WebhookClient() {
  stop();
}

void WebhookClient::send(WebhookRequest request, Done done) {
  asio::co_spawn(impl_->context, impl_->serve(std::move(request), std::move(done)), asio::detached);
}

// The thread ends once every request has ended, so none outlives the context.
void WebhookClient::stop() {
  if (!impl_->thread.joinable()) return;
  asio::post(impl_->context, [this] {
    impl_->stopping = true;
    for (Exchange* exchange : impl_->exchanges) exchange->cut_off();
    impl_->work.reset();
  });
  impl_->thread.join();
}

}  // namespace spillway
