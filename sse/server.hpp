// The HTTP server: streams (`GET /sse/{type}/{channel}`, `GET /sse?channel=…`) and whatever routes
// its owner adds. Beast reads a request; a stream's socket then belongs to a shard, which writes to
// it without ever waiting.
//
// A client that closes only its sending side goes on receiving; it is sent a comment at once, so
// that one that is gone altogether shows. Over max_connections a stream is answered with 200,
// `retry:` and close, while plain routes are served from a small reserve, one answer for each
// connection; over max_connections_per_address likewise. A client's address is its connection's, or
// what a trusted proxy says in X-Forwarded-For; the latter is counted when a stream is asked for,
// since a proxy's connection may serve many clients.
//
// start(), stop() and the destructor belong to one thread; stop() blocks, may be called twice and
// has a deadline. Route handlers run on a shard's thread and must not block: they answer through
// `respond`, which may be called from any thread, once, also after the client has gone.
// Errors: start() throws std::system_error when an endpoint cannot be bound.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sse/access_options.hpp"
#include "sse/access_record.hpp"
#include "sse/counters.hpp"
#include "sse/endpoint.hpp"
#include "sse/hub.hpp"
#include "sse/presence.hpp"
#include "sse/replay_source.hpp"
#include "sse/subscribers.hpp"
#include "sse/tls_context.hpp"
#include "sse/trusted_proxies.hpp"

namespace spillway::sse {

struct HttpRequest {
  std::string method;        // "GET", "POST" … (HEAD arrives as "HEAD")
  std::string path;          // percent-decoded, without the query
  std::string query;         // as sent, without "?" and without a token
  std::string content_type;  // lower case, without parameters
  std::string body;
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

// What a request must be allowed to do before a route serves it.
enum class Right {
  none,     // anybody
  publish,  // to enqueue events
  admin,    // to look at what goes on
};

using Respond = std::function<void(HttpResponse)>;
using RouteHandler = std::function<void(HttpRequest, Respond)>;

struct ServerOptions {
  std::vector<Endpoint> listen{{}};
  std::chrono::milliseconds retry{2000};       // the `retry:` that streams open with
  std::chrono::milliseconds heartbeat{15000};  // a comment after this long without traffic
  // From accept, or the last answer, to a whole header.
  std::chrono::milliseconds header_timeout{10000};
  std::chrono::milliseconds body_timeout{30000};  // for a body, and for writing an answer
  // A stream that takes nothing for this long is dropped.
  std::chrono::milliseconds blocked_timeout{30000};
  // A channel that carries more than one frame in this time wakes its readers once in it, so that
  // they get all of them by one system call; 0: each time.
  std::chrono::milliseconds coalesce{0};
  std::size_t header_bytes = 8192;  // request line and headers
  std::size_t body_bytes = 1u << 20;
  // Of what clients that resume read from the database: a page (or one broadcast, if that is
  // larger), and all pages that are in memory; whoever finds no room waits for his turn.
  std::size_t page_bytes = 256u << 10;
  std::size_t replay_bytes = 64u << 20;
  std::size_t max_connections = 20000;   // in all; over it: 200, retry, close
  std::size_t closed_per_second = 2000;  // streams that stop() closes, as long as it has time
  // Of one address (IPv6: of one /64). This machine's own are not counted unless it says so: local
  // proxies and tools would be one client.
  std::size_t max_connections_per_address = 1000;
  bool count_local_addresses = false;
  TrustedProxies proxies;  // who may say for whom he asks
  // TCP is encrypted with it, Unix sockets never are; none: neither is.
  std::shared_ptr<const TlsContext> tls;
  std::size_t channels_per_connection = 100;    // over it: 400
  std::size_t max_subscribers_per_channel = 0;  // over it: 200, retry, close; 0: no such limit
  PresenceOptions presence;                     // no channels: none
  AccessLog access_log;  // hears of each request, and of each stream at its end; may be empty
  AccessOptions access;  // who may
};

class Server {
 public:
  Server(ServerOptions options, Hub& hub, ReplaySource& replay);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Before start(). GET also serves HEAD. A known path with another method is 405 with `Allow`, an
  // unknown path 404; both with a JSON body {"error":"…"} that says what there is instead.
  void route(std::string method, std::string path, Right right, RouteHandler handler);

  void start();
  // From here on new connections get this one. Any thread, while it runs.
  void use_tls(std::shared_ptr<const TlsContext> tls);

  // Where it listens, in the order of the options, with the ports that it has got.
  [[nodiscard]] std::vector<Endpoint> endpoints() const;
  [[nodiscard]] std::uint16_t port() const;       // of the first that is TCP; 0: none is
  [[nodiscard]] std::size_t streams() const;      // open streams, for status
  [[nodiscard]] ServerCounters counters() const;  // any thread, after start()
  // Who listens; lives as long as the server.
  [[nodiscard]] Subscribers& subscribers();
  [[nodiscard]] Presence* presence();  // null: no channel announces it

  // Takes no more connections; those that are open, streams included, go on. Does not block, may be
  // called twice.
  void stop_accepting();

  // Takes no more connections, ends streams, each once what is pending for it is written and with a
  // jittered `retry:`, some thousands a second at most while that leaves time, and closes the rest
  // at the deadline. What the hub is given meanwhile still reaches the streams that are left.
  // Blocks until its threads are gone.
  void stop(std::chrono::milliseconds deadline);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway::sse
