#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>
#include <thread>

#include "processor/cli/commands.hpp"
#include "processor/status.hpp"

namespace spillway::cli {

void add_status(CLI::App& app, Action& action) {
  struct Options {
    Common common;
    bool json = false;
    std::string interval = "1s";
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("status", "Queue depth, oldest age, retrying, dead, rates, head");
  add_common(*command, options->common);
  command->add_flag("--json", options->json, "As JSON");
  command
      ->add_option("--interval", options->interval,
                   "Time over which rates are measured; 0 for none")
      ->capture_default_str();
  command->callback([&action, options] {
    action = [options] {
      using clock = std::chrono::steady_clock;
      const auto interval = parse_duration(options->interval, "--interval");
      const PgTarget target = target_of(options->common, "spillway-status");
      check_database(target);
      PgConnection connection(target);
      Status status = read_status(connection);
      Rates rates;
      if (interval.count() > 0) {
        const auto begin = clock::now();
        std::this_thread::sleep_for(interval);
        const Status after = read_status(connection);
        rates = rates_between(status, after,
                              std::chrono::duration<double>(clock::now() - begin).count());
        status = after;
      }
      if (options->json) {
        auto body = to_json(status);
        if (interval.count() > 0) body.update(to_json(rates));
        std::cout << body.dump(2) << '\n';
        return 0;
      }
      const auto row = [](const char* name, const auto& value) {
        std::cout << std::left << std::setw(20) << name << value << '\n';
      };
      std::cout << std::fixed << std::setprecision(1);
      row("pending", status.pending);
      if (status.oldest_pending_seconds) row("oldest pending (s)", *status.oldest_pending_seconds);
      row("scheduled", status.scheduled);
      row("retrying", status.retrying);
      row("dead", status.dead);
      row("last event", status.last_event_id);
      row("head position", status.head);
      row("floor position", status.floor);
      row("workers", status.workers);
      row("runners", status.runners);
      row("lanes", status.lanes);
      row("stream servers", status.stream_servers);
      if (interval.count() > 0) {
        row("enqueued/s", rates.enqueued_per_second);
        row("settled/s", rates.settled_per_second);
        row("broadcasts/s", rates.broadcasts_per_second);
      }
      return 0;
    };
  });
}

}  // namespace spillway::cli
