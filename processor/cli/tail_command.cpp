#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "processor/backoff.hpp"
#include "processor/cli/commands.hpp"
#include "processor/outbox_reader.hpp"
#include "processor/worker.hpp"
#include "processor/worker_registry.hpp"
#include "sse/channel_name.hpp"

namespace spillway::cli {
namespace {

using sse::Broadcast;

struct Options {
  Common common;
  std::vector<std::string> channels;
  std::string from = "now";
  bool json = false;
  std::size_t count = 0;  // 0: for ever
};

// What was printed last, kept across lost connections.
struct Place {
  std::optional<sse::Head> head;
  std::size_t printed = 0;
};

bool matches(const std::vector<std::string>& channels, const std::string& channel) {
  return std::any_of(channels.begin(), channels.end(),
                     [&](const std::string& wanted) { return sse::listens_to(wanted, channel); });
}

void print(const Options& options, const Broadcast& broadcast) {
  if (options.json) {
    std::cout << nlohmann::json{{"position", broadcast.position},
                                {"channel", broadcast.channel},
                                {"event_type", broadcast.event_type},
                                {"data", broadcast.data},
                                {"ephemeral", broadcast.ephemeral}}
                     .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  } else {
    std::cout << (broadcast.ephemeral ? "-" : std::to_string(broadcast.position)) << '\t'
              << broadcast.channel << '\t' << broadcast.event_type << '\t' << broadcast.data;
  }
  std::cout << std::endl;
}

bool finished(const Options& options, const Place& place) {
  return options.count != 0 && place.printed >= options.count;
}

void print_all(const Options& options, const std::vector<Broadcast>& broadcasts, Place& place) {
  for (const Broadcast& broadcast : broadcasts) {
    if (!matches(options.channels, broadcast.channel)) continue;
    print(options, broadcast);
    ++place.printed;
    if (finished(options, place)) return;
  }
}

// From where the user wants to begin up to now, page by page.
void begin(OutboxReader& reader, const Options& options, Place& place) {
  const auto line = reader.line();
  place.head = line.head;
  if (options.from == "now") return;
  sse::ReplayRequest request{options.channels, std::nullopt, 500};
  if (options.from != "earliest") request.after = std::stoull(options.from);
  for (;;) {
    const sse::ReplayPage page = reader.read_page(request);
    print_all(options, page.broadcasts, place);
    place.head = page.head;
    if (finished(options, place) || page.upto >= page.head.position) return;
    request.after = page.upto;
  }
}

void follow(const PgTarget& target, const Options& options, Place& place) {
  PgConnection connection(target.direct());
  bool told = true;
  const bool pooled = connection.pooled();
  if (!pooled) connection.listen("spillway_broadcasts", [&told] { told = true; });
  // Workers notify only when somebody serves streams; that is us too.
  WorkerRegistry(connection, pooled).follow_streams();
  OutboxReader reader(connection);
  if (!place.head) begin(reader, options, place);
  while (!finished(options, place)) {
    if (told) {
      told = false;
      for (bool more = true; more && !finished(options, place);) {
        auto tail = reader.read_after(*place.head, 1000);
        if (place.head->position < tail.floor) {
          std::cerr << "spillway: positions " << place.head->position + 1 << " to " << tail.floor
                    << " are no longer kept\n";
          place.head->position = tail.floor;
          continue;
        }
        print_all(options, tail.batch.broadcasts, place);
        more = tail.more;
        if (more)
          place.head->position = tail.batch.broadcasts.back().position;
        else
          place.head = tail.head;
      }
      continue;
    }
    pollfd source{connection.socket(), POLLIN, 0};
    if (poll(&source, pooled ? 0 : 1, 1000) == 0) told = true;  // NOTIFY is a hint
    if (!pooled) connection.poll_notifications();
  }
}

}  // namespace

void add_tail(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("tail", "A stream in the terminal; survives lost connections");
  add_common(*command, options->common);
  command
      ->add_option("channels", options->channels,
                   "Channels; Prefix:* takes all that start with Prefix:")
      ->required()
      ->check([](const std::string& name) {
        const std::string problem = sse::problem_of_subscription(name);
        return problem.empty() ? problem : "the channel " + problem;
      });
  command
      ->add_option("--from", options->from, "now, earliest, or the position after which to begin")
      ->capture_default_str()
      ->check([](const std::string& text) {
        const bool number = !text.empty() && text.size() < 19 &&
                            std::all_of(text.begin(), text.end(),
                                        [](unsigned char c) { return std::isdigit(c) != 0; });
        return text == "now" || text == "earliest" || number
                   ? std::string()
                   : "--from: write now, earliest or a position, not " + text;
      });
  command->add_flag("--json", options->json, "One JSON object per line");
  command->add_option("--count", options->count, "Stop after this many");
  command->callback([&action, options] {
    action = [options] {
      signal(SIGPIPE, SIG_IGN);  // NOLINT(concurrency-mt-unsafe): one thread
      const PgTarget target = target_of(options->common, "spillway-tail");
      check_database(target);
      Place place;
      Backoff backoff;
      while (!finished(*options, place) && std::cout) {
        try {
          follow(target, *options, place);
        } catch (const ConnectionLost& error) {
          std::cerr << "spillway: " << hide_password(error.what()) << "; trying again\n";
          std::this_thread::sleep_for(backoff.next());
        }
      }
      return 0;
    };
  });
}

}  // namespace spillway::cli
