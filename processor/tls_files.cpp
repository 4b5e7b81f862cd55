#include "processor/tls_files.hpp"

#include <spdlog/spdlog.h>

#include <array>
#include <ctime>
#include <stdexcept>

#include "processor/worker.hpp"

namespace spillway {
namespace {

using std::chrono::system_clock;

constexpr auto kWarnAhead = std::chrono::hours(14 * 24);

std::string date_of(system_clock::time_point time) {
  const std::time_t seconds = system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d", &parts);
  return {text.data(), length};
}

}  // namespace

std::shared_ptr<const sse::TlsContext> load_tls(const TlsFiles& files) {
  std::shared_ptr<const sse::TlsContext> tls;
  try {
    tls = std::make_shared<sse::TlsContext>(files.certificate, files.key);
  } catch (const std::runtime_error& error) {
    throw ConfigurationError(std::string("--tls-cert, --tls-key: ") + error.what());
  }
  if (const auto warning = expiry_warning(tls->expires(), system_clock::now()); !warning.empty())
    spdlog::warn("--tls-cert {}: {}", files.certificate, warning);
  return tls;
}

std::string expiry_warning(system_clock::time_point expires, system_clock::time_point now) {
  if (expires - kWarnAhead > now) return {};
  const char* verb = expires <= now ? "expired on " : "expires on ";
  return "the certificate " + (verb + date_of(expires)) +
         "; put a new one in its place and send SIGHUP";
}

}  // namespace spillway
