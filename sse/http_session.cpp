#include "sse/http_session.hpp"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/error.hpp>
#include <exception>
#include <utility>

#include "sse/address.hpp"
#include "sse/frame.hpp"
#include "sse/http_text.hpp"
#include "sse/responder.hpp"

namespace spillway::sse {
namespace {

namespace http = boost::beast::http;
using std::chrono::milliseconds;

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

// How long, and how much, is read after an error answer: closing while the client still sends would
// make its kernel throw the answer away.
constexpr milliseconds kLinger{1000};
constexpr std::size_t kLingerBytes = 1u << 20;

// More than the header's limit that the parser may leave in the buffer because it ends nowhere.
constexpr std::size_t kUnparsedBytes = 64u << 10;
constexpr std::size_t kReadAtLeast = 512;

Seconds now_on_the_wall() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

}  // namespace

bool is_counted(const ServerOptions& options, const Peer& client) {
  const bool local = client.is_unix() || client.address()->is_loopback();
  return (!local || options.count_local_addresses) && !options.proxies.trusts(client);
}

HttpSession::HttpSession(HttpService& service, Connection connection, ConnectionSlot slot)
    : service_(service),
      connection_(std::move(connection)),
      slot_(std::move(slot)),
      timeout_(service.shard.context()),
      answered_(service.shard.context()),
      header_time_(service.options.header_timeout) {
  service_.sessions.push_back(*this);
  service_.shard.add_child();
}

HttpSession::~HttpSession() {
  SessionHook::unlink();
  service_.shard.remove_child();
}

void HttpSession::start() {
  asio::co_spawn(
      service_.shard.context(), [self = shared_from_this()] { return self->run(); },
      // Whatever went wrong concerned this connection only, and it is closed by now.
      [](std::exception_ptr) {});
}

void HttpSession::finish() {
  finishing_ = true;
  if (idle_) abort();
}

void HttpSession::abort() {
  aborted_ = true;
  connection_.close();
  timeout_.cancel();
  answered_.cancel();
}

void HttpSession::answer(std::uint64_t request, HttpResponse response) {
  if (request != request_ || response_) return;
  response_ = std::move(response);
  answered_.cancel();
}

asio::awaitable<void> HttpSession::run() {
  Next next = connection_.encrypted() ? co_await begin_tls() : Next::request;
  while (next == Next::request) {
    next = co_await serve_one();
    if (next == Next::gone || aborted_) break;
    if (next == Next::linger) co_await linger();
    if (next != Next::request || finishing_) break;
  }
  disarm();
  connection_.close();
}

asio::awaitable<HttpSession::Next> HttpSession::begin_tls() {
  const auto begin = std::chrono::steady_clock::now();
  auto result = Connection::Handshake::again;
  arm(header_time_);
  while (result == Connection::Handshake::again && !timed_out_ && !aborted_)
    result = co_await connection_.handshake();
  disarm();
  if (aborted_) co_return Next::gone;
  if (result == Connection::Handshake::plain_http) {
    const std::string bytes = to_bytes(
        error_response(400, "this port speaks TLS; write https:// in front of it"), false, false);
    co_await write(bytes);
    co_await linger();
  }
  if (result != Connection::Handshake::done) co_return Next::close;
  const auto took = std::chrono::steady_clock::now() - begin;
  header_time_ -= std::chrono::duration_cast<milliseconds>(took);
  co_return Next::request;
}

asio::awaitable<HttpSession::Next> HttpSession::serve_one() {
  const ServerOptions& options = service_.options;
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(options.header_bytes));
  parser_->body_limit(options.body_bytes);
  ++request_;
  response_.reset();
  head_ = {};
  cors_.clear();
  subject_.clear();
  idle_ = buffer_.size() == 0;
  arm(std::exchange(header_time_, options.header_timeout));
  const error_code error = co_await read(false);
  disarm();
  if (options.access_log) began_ = std::chrono::steady_clock::now();
  if (error) co_return co_await refuse(error);
  idle_ = false;

  head_ = read_request_head(parser_->get());
  look_who_asks();
  if (!head_.ambiguous.empty()) {
    const std::string wrong = "more than one " + std::string(head_.ambiguous) + "; send one";
    co_return co_await reply(error_response(400, wrong), Next::linger);
  }
  if (const auto refused = service_.access.check_host(head_, connection_.peer().is_unix()))
    co_return co_await turn_away(*refused);
  cors_ = service_.access.headers(head_);
  if (is_stream_path(head_.path)) co_return co_await serve_stream();
  co_return co_await serve_route();
}

// --- streams ---

asio::awaitable<HttpSession::Next> HttpSession::serve_stream() {
  if (service_.access.is_preflight(head_)) {
    const HttpResponse response = service_.access.preflight(head_, "GET, HEAD");
    co_return co_await reply_unread(response);
  }
  if (!head_.head_only() && head_.method != "GET") {
    HttpResponse response = error_response(405, "a stream is read with GET");
    response.headers.emplace_back("Allow", "GET, HEAD");
    co_return co_await reply(response, Next::linger);
  }
  auto address = parse_address(head_.path, head_.query, service_.options.channels_per_connection);
  if (const auto* wrong = std::get_if<AddressError>(&address))
    co_return co_await reply(error_response(400, wrong->message), Next::linger);
  auto admitted = service_.access.subscribe(head_, std::get<Channels>(address), now_on_the_wall());
  if (const auto* refused = std::get_if<HttpResponse>(&admitted))
    co_return co_await turn_away(*refused);
  if (head_.head_only()) {
    const std::string bytes = stream_head(to_lines(cors_));
    co_await write(bytes);
    report(200, 0);
    co_return Next::close;
  }
  if (is_counted(service_.options, client_)) slot_.count_for(client_);
  Shard& shard = service_.shard;
  shard.look();
  const auto limit = over_limit();
  if (!shard.serving() || limit) {
    std::string why = "this server is starting or stopping";
    if (limit == Refusal::connections)
      why = "this server has its limit of " + std::to_string(service_.options.max_connections) +
            " connections";
    if (limit == Refusal::address)
      why = "this address has its limit of " +
            std::to_string(service_.options.max_connections_per_address) + " connections";
    co_return co_await send_away(limit.value_or(Refusal::not_ready), why);
  }
  Caller& caller = std::get<Caller>(admitted);
  auto channels = std::get<Channels>(std::move(address));
  auto places = service_.subscribers.join(channels, caller.subject);
  if (const auto* full = std::get_if<Subscribers::Full>(&places)) {
    const std::string why = "the channel " + full->channel + " has its limit of " +
                            std::to_string(service_.subscribers.most()) + " subscribers";
    co_return co_await send_away(Refusal::channel, why);
  }
  StreamRequest wanted{
      std::move(channels),
      choose_resume_point(head_.last_event_id, query_value(head_.query, "last_event_id"),
                          shard.log().epoch(), shard.log().end()),
      std::move(caller.subject),
      to_lines(cors_),
      caller.expires.value_or(kNever),
      std::get<Subscribers::Places>(std::move(places)),
      {}};
  if (service_.options.access_log) {
    wanted.record = std::make_unique<AccessRecord>(record(200));
    wanted.record->subject = wanted.subject;
  }
  connection_.forget_buffered();
  connection_.speak_for(client_);
  shard.open(std::move(connection_), std::move(slot_), std::move(wanted));
  co_return Next::gone;
}

asio::awaitable<HttpSession::Next> HttpSession::send_away(Refusal refusal, std::string_view why) {
  service_.shard.count().refusals.add(refusal);
  // A value of its own: g++ 12 destroys some temporaries of a co_await twice.
  const std::string bytes = come_back(service_.shard.jittered_retry(), why, to_lines(cors_));
  co_await write(bytes);
  report(200, 0, to_string(refusal));
  co_return Next::linger;
}

// For a proxy's connection each request says anew whose it is.
void HttpSession::look_who_asks() {
  client_ = service_.options.proxies.client(connection_.peer(), head_.forwarded_for);
}

std::optional<Refusal> HttpSession::over_limit() const {
  if (slot_.order() > service_.options.max_connections) return Refusal::connections;
  if (slot_.client_order() > service_.options.max_connections_per_address) return Refusal::address;
  return std::nullopt;
}

// --- plain routes ---

asio::awaitable<HttpSession::Next> HttpSession::serve_route() {
  const auto decoded = percent_decode(head_.path, false);
  if (!decoded || decoded->find('\0') != std::string::npos)
    co_return co_await reply(error_response(400, "bad percent-encoding in the path"), Next::linger);
  HttpRequest request;
  request.method = head_.method;
  request.path = *decoded;
  request.query = without_token(head_.query);
  auto found = service_.router.find(request.method, request.path);
  if (const auto* response = std::get_if<HttpResponse>(&found)) {
    if (response->status != 405 || !service_.access.is_preflight(head_))
      co_return co_await reply_unread(*response);
    const HttpResponse preflight =
        service_.access.preflight(head_, response->headers.front().second);
    co_return co_await reply_unread(preflight);
  }
  const Route& route = *std::get<const Route*>(found);
  const auto admitted = service_.access.call(head_, route.right, now_on_the_wall());
  if (const auto* refused = std::get_if<HttpResponse>(&admitted))
    co_return co_await turn_away(*refused);
  if (service_.options.access_log) subject_ = std::get<Caller>(admitted).subject;
  if (!co_await read_body()) co_return Next::linger;
  const bool keep_alive = parser_->get().keep_alive() && !over_limit();
  request.content_type = head_.content_type;
  request.body = std::move(parser_->get().body());

  Respond respond = make_responder(service_.shard.mailbox(), weak_from_this(), request_);
  try {
    route.handler(std::move(request), std::move(respond));
  } catch (const std::exception&) {
    respond = nullptr;
    answer(request_, error_response(500, "the request could not be handled"));
  }
  respond = nullptr;  // without a copy in somebody's hands there will be no answer
  while (!response_ && !aborted_) {
    answered_.expires_at(asio::steady_timer::time_point::max());
    co_await answered_.async_wait(kNoThrow);
  }
  if (aborted_) co_return Next::gone;
  co_return co_await reply(*response_, keep_alive && !finishing_ ? Next::request : Next::close);
}

asio::awaitable<bool> HttpSession::read_body() {
  if (parser_->is_done()) co_return true;
  if (boost::beast::iequals(parser_->get()[http::field::expect], "100-continue") &&
      !co_await write("HTTP/1.1 100 Continue\r\n\r\n"))
    co_return false;
  arm(service_.options.body_timeout);
  const error_code error = co_await read(true);
  disarm();
  if (!error) co_return true;
  co_await refuse(error);
  co_return false;
}

// Drives the parser to the end of the header, or of the message.
asio::awaitable<error_code> HttpSession::read(bool whole) {
  parser_->eager(whole);
  for (;;) {
    error_code error;
    while (buffer_.size() > 0 && !error) {
      const std::size_t parsed = parser_->put(buffer_.data(), error);
      buffer_.consume(parsed);
      if (!error && (whole ? parser_->is_done() : parser_->is_header_done())) co_return error;
      if (parsed == 0) break;
    }
    if (error && error != http::error::need_more) co_return error;
    // The parser counts headers and body, not what stands around chunks.
    if (buffer_.size() > service_.options.header_bytes + kUnparsedBytes)
      co_return http::error::buffer_overflow;
    const std::size_t room = std::max(kReadAtLeast, buffer_.capacity() - buffer_.size());
    const auto [failed, bytes] = co_await connection_.read_some(buffer_.prepare(room));
    buffer_.commit(bytes);
    if (failed == asio::error::eof) {
      if (!parser_->got_some()) co_return http::error::end_of_stream;
      parser_->put_eof(error);
      co_return error;
    }
    // The time may be over without a wait that it could have ended.
    if (failed || timed_out_ || aborted_) co_return asio::error::operation_aborted;
  }
}

// --- answers ---

asio::awaitable<HttpSession::Next> HttpSession::refuse(error_code error) {
  const ServerOptions& options = service_.options;
  if (aborted_) co_return Next::gone;
  if (timed_out_) {
    const bool began = parser_->got_some() || buffer_.size() > 0;
    if (!began) co_return Next::close;  // it never asked anything
    co_return co_await reply(error_response(408, "the request took too long; send it at once"),
                             Next::linger);
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    co_return co_await reply(
        error_response(431, "the headers are too large; send at most " +
                                std::to_string(options.header_bytes) + " bytes of them"),
        Next::linger);
  if (error == http::error::body_limit)
    co_return co_await reply(
        error_response(413, "the body is too large; send at most " +
                                std::to_string(options.body_bytes) + " bytes of it"),
        Next::linger);
  if (error == http::error::end_of_stream || error == http::error::partial_message)
    co_return Next::close;
  if (error.category() == make_error_code(http::error::bad_method).category())
    co_return co_await reply(error_response(400, "this is not an HTTP/1.1 request"), Next::linger);
  co_return Next::close;
}

asio::awaitable<HttpSession::Next> HttpSession::reply(const HttpResponse& response, Next next) {
  service_.shard.count().responses[response.status < 600 ? response.status / 100 : 0].add();
  const bool head_only = parser_->get().method() == http::verb::head;
  const unsigned status = response.status;
  const std::size_t size = head_only ? 0 : response.body.size();
  const std::string bytes = to_bytes(response, next == Next::request, head_only, cors_);
  const bool written = co_await write(bytes);
  report(status, size);
  co_return written ? next : Next::close;
}

AccessRecord HttpSession::record(unsigned status) const {
  AccessRecord record;
  record.client = client_.text();
  record.method = head_.method;
  if (!head_.method.empty()) record.target = head_.redacted_target();
  record.subject = subject_;
  record.status = status;
  return record;
}

void HttpSession::report(unsigned status, std::size_t bytes, std::string_view end) {
  if (!service_.options.access_log) return;
  AccessRecord line = record(status);
  line.bytes = bytes;
  line.end = end;
  line.duration = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - began_);
  service_.options.access_log(line);
}

// A body that is still under way is not worth reading.
asio::awaitable<HttpSession::Next> HttpSession::reply_unread(const HttpResponse& response) {
  const bool whole = parser_->is_done() && parser_->get().keep_alive() && !over_limit();
  co_return co_await reply(response, whole && !finishing_ ? Next::request : Next::linger);
}

asio::awaitable<HttpSession::Next> HttpSession::turn_away(const HttpResponse& response) {
  service_.shard.count().refusals.add(response.status == 401 ? Refusal::unauthorized
                                                             : Refusal::forbidden);
  co_return co_await reply_unread(response);
}

asio::awaitable<bool> HttpSession::write(std::string_view bytes) {
  arm(service_.options.body_timeout);
  bool failed = false;
  while (!failed && (!bytes.empty() || connection_.unsent())) {
    const auto [error, taken] = co_await connection_.write_some(bytes);
    bytes.remove_prefix(taken);
    // The time may be over without a wait that it could have ended.
    failed = error || timed_out_ || aborted_;
  }
  disarm();
  co_return !failed;
}

asio::awaitable<void> HttpSession::linger() {
  if (!connection_.finish_sending()) co_return;
  arm(kLinger);
  std::array<char, 4096> discarded;
  for (std::size_t total = 0; total < kLingerBytes && !timed_out_ && !aborted_;) {
    const auto [error, n] = co_await connection_.read_some(asio::buffer(discarded));
    if (error) break;
    total += n;
  }
  disarm();
}

void HttpSession::arm(milliseconds timeout) {
  timed_out_ = false;
  timeout_.expires_after(timeout);
  timeout_.async_wait([weak = weak_from_this(), armed = ++armed_](error_code error) {
    const auto self = weak.lock();
    if (error || !self || armed != self->armed_) return;
    self->timed_out_ = true;
    self->connection_.cancel();
  });
}

void HttpSession::disarm() {
  ++armed_;
  timeout_.cancel();
}

}  // namespace spillway::sse
