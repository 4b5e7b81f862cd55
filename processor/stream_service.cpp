#include "processor/stream_service.hpp"

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include "processor/access_line.hpp"
#include "processor/journal.hpp"
#include "processor/listener.hpp"
#include "processor/reloads.hpp"
#include "processor/tls_files.hpp"
#include "processor/who_may.hpp"

namespace spillway {
namespace {

sse::HubOptions hub_options(const WorkerOptions& options) {
  sse::HubOptions hub;
  hub.log_bytes = options.log_bytes;
  hub.latest = options.latest;
  hub.shards = std::max(1u, std::min(8u, std::thread::hardware_concurrency()));
  return hub;
}

sse::ServerOptions server_options(const StreamService::Surroundings& around,
                                  std::shared_ptr<sse::KeyRing> keys) {
  sse::ServerOptions server = around.options.server;
  server.access = access_options(around.options, std::move(keys));
  if (around.options.tls.given()) server.tls = load_tls(around.options.tls);
  if (around.options.access_log)
    server.access_log = [&journal = around.journal](const sse::AccessRecord& record) {
      journal.write(line_of(record));
    };
  return server;
}

}  // namespace

StreamService::StreamService(const Surroundings& around, const sse::Head& head,
                             std::shared_ptr<sse::KeyRing> keys, Reloads& reloads)
    : hub_(hub_options(around.options)),
      replay_(around.options.target),
      api_(
          around.options.target, [&listener = around.listener] { return listener.healthy(); },
          [&listener = around.listener] { return listener.worker_id(); }),
      metrics_(MetricsPageOptions{around.options.target}),
      server_(server_options(around, keys), hub_, replay_),
      feed_(around.options.target, hub_, around.outbox, around.log),
      exchange_(PresenceExchangeOptions{
                    around.options.target, &server_.subscribers(), server_.presence(),
                    [&listener = around.listener] { return listener.worker_id(); },
                    [&listener = around.listener] { return listener.others_listen(); }, around.log},
                around.presence) {
  // Before anybody can connect: a stream that finds no line of positions is told to come back.
  hub_.start(head);
  api_.add_routes(server_);
  metrics_.add_route(server_);
  const WorkerOptions& options = around.options;
  if (keys)
    reloads.add("keys", [&options, keys] {
      keys->replace(read_auth_keys(options.auth_keys));
      return std::to_string(options.auth_keys.size());
    });
  if (options.tls.given())
    reloads.add("certificates", [&options, this] {
      server_.use_tls(load_tls(options.tls));
      return std::string();
    });
}

void StreamService::listen() {
  try {
    server_.start();
  } catch (const std::system_error& error) {
    throw ConfigurationError(std::string("--listen: ") + error.what());
  }
}

void StreamService::follow() {
  feed_.start();
  exchange_.start();
}

void StreamService::serve_metrics(WorkerMetrics sources) {
  sources.server = &server_;
  sources.feed = &feed_;
  sources.replay = &replay_;
  sources.api = &api_;
  metrics_.start([sources](MetricFamilies& families) { collect(sources, families); });
}

void StreamService::stop(std::chrono::milliseconds deadline) {
  api_.stop_waiting();
  // The feed goes on meanwhile: what others commit still reaches the streams that are left.
  server_.stop(deadline);
  feed_.stop();
  exchange_.stop();
  metrics_.stop();
  api_.stop();
  replay_.stop();
}

}  // namespace spillway
