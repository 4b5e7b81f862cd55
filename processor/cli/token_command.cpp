#include <chrono>
#include <iostream>
#include <memory>
#include <stdexcept>

#include "processor/cli/commands.hpp"
#include "processor/worker.hpp"
#include "sse/channel_pattern.hpp"
#include "sse/token.hpp"
#include "sse/utf8.hpp"

namespace spillway::cli {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> subscribe;
  bool publish = false;
  bool admin = false;
  std::string subject;
  std::string expires = "1h";
  std::string not_before;
  std::string auth_key;
};

sse::AuthKey key_of(const std::string& file) {
  try {
    return sse::signing_key(sse::read_key_file(file));
  } catch (const sse::AuthKeyError& error) {
    throw ConfigurationError("--auth-key " + file + ": " + error.what());
  }
}

std::chrono::seconds seconds(const std::string& text, const std::string& option) {
  const auto duration = parse_duration(text, option);
  if (duration < std::chrono::seconds(1))
    throw ConfigurationError(option + " " + text + ": write 1s at least");
  return std::chrono::floor<std::chrono::seconds>(duration);
}

sse::Claims claims_of(const Options& options) {
  if (options.subscribe.empty() && !options.publish && !options.admin)
    throw ConfigurationError(
        "this token would allow nothing; write --subscribe PATTERN, --publish or --admin");
  for (const std::string& pattern : options.subscribe)
    if (const auto problem = sse::problem_of_grant(pattern); !problem.empty())
      throw ConfigurationError("--subscribe \"" + pattern + "\": " + problem);
  if (options.subject.size() > sse::kSubjectBytes || !sse::valid_utf8(options.subject))
    throw ConfigurationError("--subject: write at most 255 bytes of UTF-8");
  sse::Claims claims;
  claims.subscribe = options.subscribe;
  claims.publish = options.publish;
  claims.admin = options.admin;
  claims.subject = options.subject;
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  if (!options.not_before.empty())
    claims.not_before = now + seconds(options.not_before, "--not-before");
  if (options.expires != "never") claims.expires = now + seconds(options.expires, "--expires");
  if (claims.not_before && claims.expires && *claims.expires <= *claims.not_before)
    throw ConfigurationError("--expires " + options.expires +
                             ": write more than --not-before, which is " + options.not_before);
  return claims;
}

int sign(const Options& options) {
  const sse::Claims claims = claims_of(options);
  const sse::AuthKey key = key_of(options.auth_key);
  try {
    std::cout << sse::sign_token(claims, key) << std::endl;
  } catch (const std::length_error& error) {
    throw ConfigurationError(std::string("--subscribe: ") + error.what());
  }
  return std::cout ? 0 : 1;
}

}  // namespace

void add_token(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("token", "Signs a token for clients of the streams");
  command
      ->add_option("--subscribe", options->subscribe,
                   "Channels it opens: a name, Prefix:* or *; may be given more than once")
      ->delimiter(',');
  command->add_flag("--publish", options->publish, "It may enqueue events (POST /events)");
  command->add_flag("--admin", options->admin, "It may read status and metrics (GET /api/…)");
  command->add_option("--subject", options->subject, "Whose it is: the claim sub");
  command
      ->add_option("--expires", options->expires,
                   "How long it is good, from now on: a duration such as 15m, or never")
      ->capture_default_str();
  command->add_option("--not-before", options->not_before,
                      "When it begins to be good: a duration from now on; else at once");
  command
      ->add_option("--auth-key", options->auth_key,
                   "File with the secret, or with the private key (PEM), that signs it")
      ->required();
  command->add_option("--config", options->config, "Options from a TOML file");
  command->callback([&action, options] { action = [options] { return sign(*options); }; });
}

}  // namespace spillway::cli
