#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "processor/cli/commands.hpp"
#include "processor/cli/progress_bar.hpp"
#include "processor/enqueue.hpp"
#include "processor/worker.hpp"

namespace spillway::cli {
namespace {

using nlohmann::json;

constexpr std::size_t file_batch = 1000;  // events of a file that are inserted together

struct Options {
  Common common;
  std::string type;
  std::string payload = "{}";
  std::string file;
  std::optional<std::string> stream, context, correlation_id, idempotency_key, execute_at;
  std::optional<int> stream_version, priority, max_attempts;
};

json parse_json(const std::string& text, const std::string& what) {
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) throw BadEvent(what + " is not valid JSON: " + text);
  return value;
}

json event_of(const Options& options) {
  json event{{"type", options.type}, {"payload", parse_json(options.payload, "the payload")}};
  if (options.stream) event["stream"] = *options.stream;
  if (options.context) event["context"] = parse_json(*options.context, "--context");
  if (options.correlation_id) event["correlation_id"] = *options.correlation_id;
  if (options.idempotency_key) event["idempotency_key"] = *options.idempotency_key;
  if (options.execute_at) event["execute_at"] = *options.execute_at;
  if (options.stream_version) event["stream_version"] = *options.stream_version;
  if (options.priority) event["priority"] = *options.priority;
  if (options.max_attempts) event["max_attempts"] = *options.max_attempts;
  check_events(event);
  return event;
}

// Batches are transactions of their own: an error names the line, and how many lines are in.
int enqueue_file(PgConnection& connection, const std::string& path) {
  std::ifstream file(path);
  if (!file) throw ConfigurationError("--file " + path + ": cannot be read");
  const ProgressBar bar(std::filesystem::file_size(path));
  json batch = json::array();
  std::size_t inserted = 0;
  std::size_t number = 0;
  std::size_t first = 1;  // line of the batch's first event
  std::uintmax_t bytes = 0;
  const auto flush = [&] {
    if (batch.empty()) return;
    try {
      inserted += insert_events(connection, batch).size();
    } catch (const SqlError& error) {
      bar.finish();
      throw SqlError(error.sqlstate(), path + ", lines " + std::to_string(first) + " to " +
                                           std::to_string(number) + ": " + error.what() + "; the " +
                                           std::to_string(inserted) +
                                           " events before them are enqueued");
    }
    batch.clear();
    bar.show(bytes, std::to_string(inserted) + " events");
  };
  for (std::string line; std::getline(file, line);) {
    ++number;
    bytes += line.size() + 1;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = path + ", line " + std::to_string(number);
    try {
      json event = parse_json(line, "the line");
      if (!event.is_object()) throw BadEvent("an event must be an object");
      check_events(event);
      if (batch.empty()) first = number;
      batch.push_back(std::move(event));
    } catch (const BadEvent& error) {
      flush();  // what stood before the bad line is good
      bar.finish();
      throw BadEvent(where + ": " + error.what() + "; the " + std::to_string(inserted) +
                     " events before it are enqueued");
    }
    if (batch.size() == file_batch) flush();
  }
  flush();
  bar.finish();
  std::cout << inserted << " events enqueued\n";
  return 0;
}

}  // namespace

void add_enqueue(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("enqueue", "Insert one event, or a file of them");
  add_common(*command, options->common);
  auto* type = command->add_option("type", options->type, "Event type, e.g. CommentAdded");
  command->add_option("payload", options->payload, "Payload, JSON");
  command
      ->add_option("--file", options->file,
                   "One event per line, as JSON objects with type, payload, …")
      ->excludes(type);
  command->add_option("--stream", options->stream, "Ordering key, e.g. item:42");
  command->add_option("--stream-version", options->stream_version,
                      "Version of the stream after this event");
  command->add_option("--context", options->context, "Context, JSON");
  command->add_option("--correlation-id", options->correlation_id, "A uuid");
  command->add_option("--idempotency-key", options->idempotency_key, "Refused when used before");
  command->add_option("--priority", options->priority, "Higher first");
  command->add_option("--execute-at", options->execute_at,
                      "Not before this time, e.g. 2030-01-31T12:00:00Z");
  command->add_option("--max-attempts", options->max_attempts,
                      "Attempts before it is a dead letter");
  command->callback([&action, options] {
    action = [options] {
      if (options->type.empty() && options->file.empty())
        throw ConfigurationError(
            "enqueue: name an event type and a payload, or --file FILE.ndjson");
      const json event = options->file.empty() ? event_of(*options) : json();
      const PgTarget target = target_of(options->common, "spillway-enqueue");
      check_database(target);
      PgConnection connection(target);
      if (!options->file.empty()) return enqueue_file(connection, options->file);
      std::cout << insert_events(connection, event).at(0) << '\n';
      return 0;
    };
  });
}

}  // namespace spillway::cli
