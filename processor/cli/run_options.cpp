#include "processor/cli/run_options.hpp"

#include <charconv>
#include <stdexcept>

#include "processor/cli/commands.hpp"
#include "processor/cli/supervise.hpp"
#include "sse/channel_name.hpp"
#include "sse/channel_pattern.hpp"
#include "sse/origin.hpp"

namespace spillway::cli {
namespace {

std::optional<std::int64_t> parse_count(const std::string& text) {
  if (text == "forever") return std::nullopt;
  std::int64_t count = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, count);
  if (parsed.ec != std::errc{} || parsed.ptr != end || count < 1000)
    throw ConfigurationError("--keep-broadcasts-count " + text +
                             ": write a number, 1000 at least, or forever");
  return count;
}

std::vector<std::string> checked(const std::vector<std::string>& values, const char* option,
                                 std::string (*problem_of)(std::string_view)) {
  for (const std::string& value : values)
    if (const std::string problem = problem_of(value); !problem.empty())
      throw ConfigurationError(std::string(option) + " \"" + value + "\": " + problem);
  return values;
}

constexpr std::uint64_t least_memory = 256u << 20;  // below it the worker itself would not start

}  // namespace

void RunOptions::add_to(CLI::App& command) {
  command.add_option("--handlers", handlers,
                     "Directory of jq handlers, or shared library; may be given more than once");
  command.add_option("--roles", roles, "What this process does: worker, sse or both")
      ->delimiter(',')
      ->check(CLI::IsMember({"worker", "sse"}))
      ->capture_default_str();
  connections.add_to(command);
  command.add_option("--port-file", port_file, "Receives the port once the streams are served");
  command.add_flag("--insecure", insecure,
                   "Listen on other than loopback addresses without --auth-key");
  command.add_option("--auth-key", auth_keys,
                     "File with the secret (HS256) or public key (RS256, ES256; PEM) that tokens "
                     "are verified with; may be given more than once; read again on SIGHUP");
  command
      .add_option("--public", public_channels,
                  "Channels that need no token: a name, Prefix:* or *; may be given more than once")
      ->delimiter(',');
  command
      .add_option("--allowed-host", allowed_hosts,
                  "Name by which requests may ask for a server without --auth-key, beside "
                  "localhost; for a proxy that passes its own on")
      ->delimiter(',');
  command
      .add_option("--cors", cors,
                  "Origins whose pages may read and enqueue, such as https://app.example.com; or "
                  "* for all, without cookies")
      ->delimiter(',');
  command.add_option("--runners", runners, "Threads that handle events, a connection each")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command.add_option("--batch", batch, "Events in one transaction, at most")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command
      .add_option("--max-attempts", max_attempts, "Attempts before an event becomes a dead letter")
      ->check(CLI::Range(1, 32000))
      ->capture_default_str();
  command
      .add_option("--retry-delay", retry_delay,
                  "Delay after the first failure; doubles each time, up to an hour")
      ->capture_default_str();
  command
      .add_option("--unhandled", unhandled, "What an event without a handler becomes: done or dead")
      ->check(CLI::IsMember({"done", "dead"}))
      ->capture_default_str();
  command
      .add_option("--dead-stream", dead_stream,
                  "What a dead letter does to the later events of its stream: release, or hold "
                  "until it is retried or discarded")
      ->check(CLI::IsMember({"release", "hold"}))
      ->capture_default_str();
  command
      .add_option("--lock-timeout", lock_timeout,
                  "How long an effect may wait for somebody's lock before its event is put off")
      ->capture_default_str();
  command
      .add_option("--batch-timeout", batch_timeout,
                  "How long a batch that is stuck, or whose process is frozen, keeps its lanes")
      ->capture_default_str();
  command.add_option("--shutdown-timeout", shutdown_timeout, "How long SIGTERM may take")
      ->capture_default_str();
  command
      .add_option("--drain-delay", drain_delay,
                  "How long SIGTERM leaves everything as it is but /readyz, which is 503 at once")
      ->capture_default_str();
  command
      .add_option("--handler-timeout", handler_timeout,
                  "A handler that takes longer ends the process, and its event fails; 0 never")
      ->capture_default_str();
  command
      .add_option("--memory-limit", memory_limit,
                  "Memory this process may use, e.g. 2G; a handler that wants more fails")
      ->transform(CLI::AsSizeValue(false));
  command.add_flag("--supervise", supervised,
                   "Start the worker again when it ends uncleanly, from a process of its own");
  command
      .add_option("--connect-timeout", connect_timeout,
                  "How long to wait for the database at start")
      ->capture_default_str();
  command.add_option("--sse-retry", sse_retry, "The reconnection delay that streams tell clients")
      ->capture_default_str();
  command
      .add_option("--heartbeat", heartbeat,
                  "A comment goes to a stream after this long without traffic")
      ->capture_default_str();
  command
      .add_option("--log-megabytes", log_megabytes, "Frames kept in memory for resuming clients")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      .add_option("--replay-megabytes", replay_megabytes,
                  "Pages of the database in memory, for clients that resume from it")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command.add_option(
      "--latest", latest,
      "Channel, or Prefix:*, of which a late joiner gets the newest frame only; may be "
      "given more than once");
  command
      .add_option("--latest-channels", latest_channels,
                  "Newest frames of such channels kept in memory, at most")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  command.add_option("--latest-megabytes", latest_megabytes, "Memory for them, at most")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      .add_option("--coalesce-ms", coalesce_ms,
                  "Milliseconds in which the readers of a busy channel are woken once; 0 each time")
      ->check(CLI::Range(0, 10'000))
      ->capture_default_str();
  command
      .add_option("--max-channels-per-connection", channels_per_connection,
                  "Channels and patterns that one stream may name")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command
      .add_option("--max-subscribers-per-channel", subscribers_per_channel,
                  "Streams of this process on one channel; over it a client is told to come back; "
                  "0: as many as there are connections")
      ->check(CLI::Range(0, 10000000))
      ->capture_default_str();
  command
      .add_option("--presence", presence,
                  "Channel, or pattern such as Room:*, whose subscribers are told who comes and "
                  "goes; may be given more than once")
      ->check([](const std::string& name) {
        const std::string problem = sse::problem_of_subscription(name);
        return problem.empty() ? problem : "the channel " + problem;
      });
  command
      .add_option("--presence-leave-delay", presence_leave_delay,
                  "How long somebody has to be away before they count as gone")
      ->capture_default_str();
  command
      .add_option("--webhook-allow", webhook_allow,
                  "Network (10.1.0.0/16) that webhooks may reach although it is private; may be "
                  "given more than once")
      ->delimiter(',');
  command.add_option("--webhook-timeout", webhook_timeout, "How long a webhook may take in all")
      ->capture_default_str();
  command
      .add_option("--webhook-connect-timeout", webhook_connect_timeout,
                  "How long a webhook may take until it is connected")
      ->capture_default_str();
  command.add_option("--webhook-attempts", webhook_attempts, "Attempts before a webhook is dead")
      ->check(CLI::Range(1, 32000))
      ->capture_default_str();
  command
      .add_option("--webhook-retry-delay", webhook_retry_delay,
                  "Delay after a webhook's first failure; doubles each time, up to an hour")
      ->capture_default_str();
  command
      .add_option("--webhooks-in-flight", webhooks_in_flight,
                  "Webhooks that are sent at the same time, at most")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      .add_option("--keep-broadcasts", keep_broadcasts,
                  "How long broadcasts can be resumed from: an age such as 12h, or forever")
      ->capture_default_str();
  command
      .add_option("--keep-broadcasts-count", keep_broadcasts_count,
                  "How many of the last broadcasts are kept, or forever")
      ->capture_default_str();
  command
      .add_option(
          "--keep-channel-floors", keep_channel_floors,
          "For how many channels it is kept what they lost when old broadcasts were dropped; "
          "0 for none")
      ->check(CLI::Range(0, 100'000'000))
      ->capture_default_str();
  command
      .add_option("--keep-events", keep_events,
                  "How long done events stay in the log: an age such as 90d, or forever")
      ->capture_default_str();
  command
      .add_option("--keep-webhooks", keep_webhooks,
                  "How long finished webhooks are kept: an age such as 30d, or forever")
      ->capture_default_str();
  command.add_option("--log-format", log_format, "Lines of the log: text, or json, an object each")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command.add_flag("--access-log", access_log,
                   "Log each request, and each stream at its end, at the level info");
  command.add_option("--log-level", log_level, "The least important lines that are logged")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str();
  command.add_option("--hint", hint, "SQL of a psql line to print once everything runs");
}

WorkerOptions RunOptions::worker_options(PgTarget target) const {
  WorkerOptions options;
  options.target = std::move(target);
  options.access_log = access_log;
  options.log.json = log_format == "json";
  for (const LogLevel level :
       {LogLevel::trace, LogLevel::debug, LogLevel::info, LogLevel::warn, LogLevel::error})
    if (log_level == to_string(level)) options.log.level = level;
  options.target.counters = std::make_shared<ConnectionCounters>();
  options.run_handlers = std::find(roles.begin(), roles.end(), "worker") != roles.end();
  options.serve_streams = std::find(roles.begin(), roles.end(), "sse") != roles.end();
  options.handlers = handlers;

  connections.apply(options.server);
  options.tls = connections.tls_files();
  options.port_file = port_file;
  options.insecure = insecure;
  options.auth_keys = auth_keys;
  options.public_channels = checked(public_channels, "--public", sse::problem_of_grant);
  options.allowed_hosts = checked(allowed_hosts, "--allowed-host", sse::problem_of_host_name);
  options.cors = checked(cors, "--cors", sse::problem_of_origin);
  options.runners = runners;
  options.batch = batch;
  options.retry.max_attempts = max_attempts;
  options.retry.base = parse_duration(retry_delay, "--retry-delay");
  options.unhandled_is_dead = unhandled == "dead";
  options.dead_holds_stream = dead_stream == "hold";
  options.lock_timeout = parse_duration(lock_timeout, "--lock-timeout");
  options.batch_timeout = parse_duration(batch_timeout, "--batch-timeout");
  if (options.lock_timeout.count() < 20)
    throw ConfigurationError("--lock-timeout " + lock_timeout + ": 20ms at least");
  // Between two statements at most one handler runs, and a second passes.
  if (options.batch_timeout.count() < 3000)
    throw ConfigurationError("--batch-timeout " + batch_timeout + ": 3s at least");
  if (options.batch_timeout <= options.lock_timeout)
    throw ConfigurationError("--batch-timeout " + batch_timeout +
                             ": write more than --lock-timeout, which is " + lock_timeout);
  options.shutdown_timeout = parse_duration(shutdown_timeout, "--shutdown-timeout");
  options.drain_delay = parse_duration(drain_delay, "--drain-delay");
  if (options.drain_delay.count() > 0 && options.drain_delay >= options.shutdown_timeout)
    throw ConfigurationError("--drain-delay " + drain_delay +
                             ": write less than --shutdown-timeout, which is " + shutdown_timeout +
                             " and has to hold the rest too");
  options.handler_timeout = parse_duration(handler_timeout, "--handler-timeout");
  if (options.handler_timeout.count() > 0 &&
      options.handler_timeout < std::chrono::milliseconds(50))
    throw ConfigurationError("--handler-timeout " + handler_timeout +
                             ": 50ms at least, or 0 for none");
  if (options.handler_timeout.count() > 0 &&
      options.batch_timeout < options.handler_timeout + std::chrono::seconds(1))
    throw ConfigurationError("--batch-timeout " + batch_timeout +
                             ": write a second more than --handler-timeout, which is " +
                             handler_timeout + ", at least");
  if (memory_limit > 0 && memory_limit < least_memory)
    throw ConfigurationError("--memory-limit " + std::to_string(memory_limit) +
                             ": 256M at least; write e.g. 512M or 2G");
  options.memory_limit = memory_limit;
  options.connect_timeout = parse_duration(connect_timeout, "--connect-timeout");
  options.server.retry = parse_duration(sse_retry, "--sse-retry");
  options.server.heartbeat = parse_duration(heartbeat, "--heartbeat");
  if (options.server.heartbeat < std::chrono::seconds(1))
    throw ConfigurationError("--heartbeat " + heartbeat + ": 1s at least");
  options.log_bytes = log_megabytes << 20;
  options.server.replay_bytes = replay_megabytes << 20;
  options.server.channels_per_connection = channels_per_connection;
  options.server.max_subscribers_per_channel = subscribers_per_channel;
  options.server.presence.channels = presence;
  options.server.presence.others = true;
  options.server.presence.leave_delay =
      parse_duration(presence_leave_delay, "--presence-leave-delay");
  for (const std::string& pattern : latest) {
    if (const std::string problem = sse::problem_of_grant(pattern); !problem.empty())
      throw ConfigurationError("--latest \"" + pattern + "\" " + problem);
  }
  options.latest = {latest, latest_channels, latest_megabytes << 20};
  options.server.coalesce = std::chrono::milliseconds(coalesce_ms);
  for (const std::string& network : webhook_allow) {
    try {
      options.webhook_policy.allow(network);
    } catch (const std::invalid_argument& error) {
      throw ConfigurationError(std::string("--webhook-allow: ") + error.what());
    }
  }
  const auto longer_than_nothing = [](const std::string& text, const char* option) {
    const auto duration = parse_duration(text, option);
    if (duration.count() < 1) throw ConfigurationError(std::string(option) + ": 1ms at least");
    return duration;
  };
  options.webhook_timeout = longer_than_nothing(webhook_timeout, "--webhook-timeout");
  options.webhook_connect_timeout =
      longer_than_nothing(webhook_connect_timeout, "--webhook-connect-timeout");
  options.webhook_retry.max_attempts = webhook_attempts;
  options.webhook_retry.base = parse_duration(webhook_retry_delay, "--webhook-retry-delay");
  options.webhooks_in_flight = webhooks_in_flight;
  options.retention.broadcasts = parse_age(keep_broadcasts, "--keep-broadcasts");
  options.retention.broadcasts_count = parse_count(keep_broadcasts_count);
  options.retention.channel_floors = keep_channel_floors;
  options.retention.events = parse_age(keep_events, "--keep-events");
  options.retention.webhooks = parse_age(keep_webhooks, "--keep-webhooks");
  return options;
}

std::optional<int> become_supervised(const RunOptions& run, WorkerOptions& worker) {
  if (!run.supervised) return std::nullopt;
  const Supervision supervision = supervise(worker.shutdown_timeout);
  if (supervision.exit_code) return supervision.exit_code;
  if (supervision.previous)
    worker.previous = {supervision.previous->pid, describe(*supervision.previous)};
  // A free port stays the same one, so that clients find it again.
  for (std::size_t i = 0; i < worker.server.listen.size(); ++i)
    if (const std::uint16_t port = supervision.shared->ports[i]; port != 0)
      worker.server.listen[i].port = port;
  worker.ready = [shared = supervision.shared, first = !supervision.previous.has_value(),
                  ready = std::move(worker.ready)](const std::vector<sse::Endpoint>& listening) {
    for (std::size_t i = 0; i < listening.size(); ++i)
      if (!listening[i].is_unix()) shared->ports[i] = listening[i].port;
    shared->ready = true;
    if (first && ready) ready(listening);
  };
  return std::nullopt;
}

std::string invitation(const std::vector<sse::Endpoint>& listening, bool encrypted,
                       const std::string& shown_url, const std::string& hint) {
  std::string text;
  for (const sse::Endpoint& endpoint : listening) {
    text += "\nspillway is ready: ";
    text += endpoint.is_unix() ? "curl -N --unix-socket " + endpoint.path + " http://localhost/\n"
                               : shown(endpoint, encrypted) + "/\n";
  }
  if (!hint.empty())
    text += "\nPaste this into another terminal, and the page moves:\n\n  psql '" + shown_url +
            "' -c " + shell_quoted(hint) + "\n";
  return text.empty() ? text : text + "\n";
}

}  // namespace spillway::cli
