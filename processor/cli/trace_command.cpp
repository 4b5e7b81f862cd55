#include <iostream>
#include <memory>

#include "effects/effect_json.hpp"
#include "processor/cli/commands.hpp"
#include "processor/load_handlers.hpp"
#include "processor/queue_store.hpp"
#include "processor/trace.hpp"
#include "processor/try_event.hpp"
#include "processor/worker.hpp"

namespace spillway::cli {
namespace {

struct Options {
  Common common;
  std::string correlation_id;
  std::vector<std::string> handlers;
  bool json = false;
};

// Effects are not kept; handlers are pure, so they tell them again. Those that read would be told
// of today's rows, not of those of then.
void count_effects(PgConnection& connection, const Registry& registry,
                   std::vector<TracedEvent>& events) {
  QueueStore store(connection);
  for (TracedEvent& traced : events) {
    const auto found = store.find(traced.id);
    if (!found || traced.status != "done") continue;
    if (handlers_of(registry, found->event).read) {
      traced.effects_note = "not known any more, because its handlers read the database";
      continue;
    }
    const Result result = try_event(registry, found->event, nullptr);
    for (const Effect& effect : result.effects) ++traced.effects[std::string(kind_of(effect))];
  }
}

int trace(const Options& options) {
  const PgTarget target = target_of(options.common, "spillway-trace");
  std::shared_ptr<const Registry> registry;
  if (!options.handlers.empty()) registry = load_handlers(options.handlers);
  check_database(target);
  PgConnection connection(target);
  std::vector<TracedEvent> events;
  try {
    events = read_trace(connection, options.correlation_id);
  } catch (const SqlError& error) {
    if (error.sqlstate() != "22P02") throw;
    throw ConfigurationError("trace " + options.correlation_id +
                             ": write a correlation id, a uuid");
  }
  if (registry) count_effects(connection, *registry, events);
  if (options.json)
    std::cout << to_json(events).dump(2) << '\n';
  else
    std::cout << to_text(events);
  if (!events.empty()) return 0;
  std::cerr << "spillway: there is no event with correlation id " << options.correlation_id << '\n';
  return 1;
}

}  // namespace

void add_trace(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("trace", "The tree of events of a correlation id");
  add_common(*command, options->common);
  command->add_option("correlation-id", options->correlation_id, "A uuid")->required();
  command->add_option("--handlers", options->handlers, "Also counts the effects that these give");
  command->add_flag("--json", options->json, "As JSON");
  command->callback([&action, options] { action = [options] { return trace(*options); }; });
}

}  // namespace spillway::cli
