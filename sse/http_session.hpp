// One connection until it ends or becomes a stream: reads requests with Beast, one after the other,
// and answers them in that order, however they were sent.
//
// Lives on one shard's thread, kept alive by its own coroutine. When a stream is asked for, the
// connection moves to the shard and all of this is freed.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/intrusive/list.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "sse/access.hpp"
#include "sse/connection.hpp"
#include "sse/connection_slot.hpp"
#include "sse/counters.hpp"
#include "sse/request_head.hpp"
#include "sse/router.hpp"
#include "sse/server.hpp"
#include "sse/shard.hpp"
#include "sse/subscribers.hpp"

namespace spillway::sse {

struct HttpService;

// Whether the limit per address is for this one.
[[nodiscard]] bool is_counted(const ServerOptions& options, const Peer& client);

using SessionHook = boost::intrusive::list_base_hook<AutoUnlink>;

class HttpSession : public SessionHook, public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(HttpService& service, Connection connection, ConnectionSlot slot);
  ~HttpSession();

  void start();
  void finish();  // ends after the request in hand
  void abort();

  // A route's answer to request number `request`; an answer that comes twice, or after the client
  // has gone, is dropped.
  void answer(std::uint64_t request, HttpResponse response);

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  enum class Next { request, close, linger, gone };

  asio::awaitable<void> run();
  asio::awaitable<Next> begin_tls();
  asio::awaitable<Next> serve_one();
  asio::awaitable<Next> serve_stream();
  asio::awaitable<Next> serve_route();
  asio::awaitable<bool> read_body();
  asio::awaitable<error_code> read(bool whole);
  asio::awaitable<Next> send_away(Refusal refusal, std::string_view why);  // to come back later
  asio::awaitable<Next> refuse(error_code error);
  asio::awaitable<Next> reply(const HttpResponse& response, Next next);
  asio::awaitable<Next> reply_unread(const HttpResponse& response);
  asio::awaitable<Next> turn_away(const HttpResponse& response);
  asio::awaitable<bool> write(std::string_view bytes);
  asio::awaitable<void> linger();

  void look_who_asks();
  [[nodiscard]] std::optional<Refusal> over_limit() const;
  [[nodiscard]] AccessRecord record(unsigned status) const;
  // To the access log, if there is one. `end`: why a stream was turned away.
  void report(unsigned status, std::size_t bytes, std::string_view end = {});
  void arm(std::chrono::milliseconds timeout);
  void disarm();

  HttpService& service_;
  Connection connection_;
  ConnectionSlot slot_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  RequestHead head_;  // of the request in hand, once it is here
  Headers cors_;      // what goes with its answer, for pages of other origins
  asio::steady_timer timeout_;
  asio::steady_timer answered_;  // never expires; cancelled when there is an answer
  std::optional<HttpResponse> response_;
  Peer client_;                                  // for whom the request in hand was sent
  std::string subject_;                          // of the request in hand, by its token
  std::chrono::steady_clock::time_point began_;  // it; only with an access log
  std::uint64_t request_ = 0;                    // number of the request in hand
  std::uint64_t armed_ = 0;                      // which use of timeout_ is meant
  std::chrono::milliseconds header_time_;  // what is left of it; the handshake takes from it too
  bool timed_out_ = false;
  bool idle_ = true;  // no byte of the next request is here
  bool finishing_ = false;
  bool aborted_ = false;
};

// What the sessions of one shard share; outlives them.
struct HttpService {
  using Sessions = boost::intrusive::list<HttpSession, boost::intrusive::constant_time_size<false>>;

  Shard& shard;
  const ServerOptions& options;
  Access access;
  const Router& router;
  Subscribers& subscribers;
  Sessions sessions{};
};

}  // namespace spillway::sse
