#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>

#include "effects/effect_error.hpp"
#include "effects/executor.hpp"
#include "processor/cli/commands.hpp"
#include "processor/event_json.hpp"
#include "processor/golden.hpp"
#include "processor/load_handlers.hpp"
#include "processor/queue_store.hpp"
#include "processor/result_json.hpp"
#include "processor/try_event.hpp"
#include "processor/worker.hpp"

namespace spillway::cli {
namespace {

struct Options {
  Common common;
  std::vector<std::string> handlers;
  std::optional<std::int64_t> event;
  std::string type;
  std::optional<std::string> payload, context, stream;
  bool rows = false;
  std::string golden;
  bool update = false;
};

json parse_json(const std::string& text, const std::string& option) {
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) throw ConfigurationError(option + " is not valid JSON: " + text);
  return value;
}

Event event_of(const Options& options) {
  json event{{"type", options.type}};
  if (options.payload) event["payload"] = parse_json(*options.payload, "--payload");
  if (options.context) event["context"] = parse_json(*options.context, "--context");
  if (options.stream) event["stream"] = *options.stream;
  return event_from_json(event);
}

// A transaction of which nothing stays.
class Unmade {
 public:
  Unmade(SqlSession& session, bool writes) : session_(session) {
    session_.exec(writes ? "BEGIN" : "BEGIN READ ONLY");
  }
  ~Unmade() {
    try {
      session_.exec("ROLLBACK");
    } catch (const std::exception&) {  // the connection is gone, and with it the transaction
    }
  }
  Unmade(const Unmade&) = delete;
  Unmade& operator=(const Unmade&) = delete;

 private:
  SqlSession& session_;
};

void print_rows(Executor& executor, SqlSession& session, const CompiledEffects& effects) {
  executor.apply_each(effects, [](const Write& write, std::size_t rows) {
    std::cout << "effect " << write.effect << " (" << write.shape->label << "): " << rows
              << (rows == 1 ? " row  " : " rows  ") << write.rows << '\n';
  });
  session.exec("SET CONSTRAINTS ALL IMMEDIATE");  // what a COMMIT would still have found
}

int print(const Event& event, const Result& result) {
  if (result.error)
    throw std::runtime_error("event " + std::to_string(event.id) + " (" + event.type +
                             "): " + *result.error);
  std::cout << to_json(result).dump(2, ' ', false, json::error_handler_t::replace) << '\n';
  return 0;
}

void note_missing_handler(const Registry& registry, const Event& event) {
  if (!handlers_of(registry, event).any)
    std::cerr << "spillway: there is no handler for type \"" << event.type << "\"\n";
}

int try_with_database(const Options& options, const Registry& registry) {
  const PgTarget target = target_of(options.common, "spillway-try");
  check_database(target);
  PgConnection connection(target);
  check_reads(registry, connection);
  PgConnection session(target);
  const Unmade transaction(session, options.rows);
  Event event;
  if (options.event) {
    const auto found = QueueStore(session).find(*options.event);
    if (!found)
      throw std::runtime_error("there is no event " + std::to_string(*options.event) +
                               " in spillway.events");
    if (!found->problem.empty()) throw std::runtime_error(found->problem);
    event = found->event;
  } else {
    event = event_of(options);
  }
  note_missing_handler(registry, event);
  DeclaredReads reads(session);
  const Result result = try_event(registry, event, &reads);
  print(event, result);
  Executor executor(session, true);
  try {
    const CompiledEffects effects =
        executor.compile(result.effects, {event.id, event.correlation_id});
    if (options.rows) print_rows(executor, session, effects);
  } catch (const EffectError& error) {
    throw std::runtime_error("event " + std::to_string(event.id) + " (" + event.type +
                             "): " + error.what());
  }
  return 0;
}

int try_handlers(const Options& options) {
  const auto registry = load_handlers(options.handlers);
  if (registry->types().empty())
    throw ConfigurationError("try: name a directory or library of handlers with --handlers");
  if (!options.golden.empty())
    return run_golden(*registry, options.golden, options.update, std::cout).failed == 0 ? 0 : 1;
  if (!options.event && options.type.empty())
    throw ConfigurationError(
        "try: name an event with --event ID, or write one with --type TYPE --payload JSON, or a "
        "folder of them with --golden DIR");
  if (options.event || options.rows) return try_with_database(options, *registry);
  const Event event = event_of(options);
  if (handlers_of(*registry, event).read) return try_with_database(options, *registry);
  note_missing_handler(*registry, event);
  return print(event, try_event(*registry, event, nullptr));
}

}  // namespace

void add_try(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("try", "What handlers give for an event, with nothing done about it");
  add_common(*command, options->common);
  command->add_option("--handlers", options->handlers,
                      "Directory of jq handlers, or shared library; may be given more than once");
  auto* event = command->add_option("--event", options->event, "Id of an event in the log");
  auto* type = command->add_option("--type", options->type, "Type of an event made up here")
                   ->excludes(event);
  command->add_option("--payload", options->payload, "Its payload, JSON")->needs(type);
  command->add_option("--context", options->context, "Its context, JSON")->needs(type);
  command->add_option("--stream", options->stream, "Its stream")->needs(type);
  auto* rows = command->add_flag(
      "--rows", options->rows,
      "Also the rows that the effects would write, tried in a transaction that is rolled back");
  auto* golden = command
                     ->add_option("--golden", options->golden,
                                  "A folder of NAME.event.json with NAME.effects.json beside it: "
                                  "compares what the handlers give with what is expected")
                     ->excludes(event)
                     ->excludes(type)
                     ->excludes(rows);
  command->add_flag("--update", options->update, "Write NAME.effects.json instead")->needs(golden);
  command->callback([&action, options] { action = [options] { return try_handlers(*options); }; });
}

}  // namespace spillway::cli
