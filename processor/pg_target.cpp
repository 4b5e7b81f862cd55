#include "processor/pg_target.hpp"

#include <cctype>
#include <regex>

namespace spillway {
namespace {

// What every session of ours wants, whatever the role's or database's defaults are. Planning a
// prepared statement anew for each call costs more than a slightly worse plan, and jit is meant for
// queries a thousand times longer. Keepalives find a dead peer within half a minute.
constexpr const char* own_settings =
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';"
    "SET client_min_messages = 'warning'; SET jit = off; SET plan_cache_mode = force_generic_plan;"
    "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;"
    "SET bytea_output = 'hex'; SET standard_conforming_strings = on";

}  // namespace

PgTarget PgTarget::direct() const {
  PgTarget target = *this;
  if (direct_url.empty()) return target;
  target.url = direct_url;
  target.pooler = Pooler::automatic;
  return target;
}

std::string connection_string(const PgTarget& target) {
  // As fallbacks, so that what the user wrote in the URL wins. A URL takes them as parameters.
  const std::string name = target.application_name;
  const bool is_url =
      target.url.starts_with("postgres://") || target.url.starts_with("postgresql://");
  if (is_url) {
    const char separator = target.url.find('?') == std::string::npos ? '?' : '&';
    std::string url = target.url;
    const auto add = [&, first = true](const char* key, const std::string& value) mutable {
      if (url.find(std::string(key) + "=") != std::string::npos) return;
      url += first ? separator : '&';
      first = false;
      url += std::string(key) + "=" + value;
    };
    auto adder = add;
    adder("fallback_application_name", name);
    adder("connect_timeout", "10");
    adder("keepalives_idle", "10");
    adder("keepalives_interval", "5");
    adder("keepalives_count", "3");
    adder("tcp_user_timeout", "20000");
    return url;
  }
  return "fallback_application_name=" + name +
         " connect_timeout=10 keepalives_idle=10 keepalives_interval=5 keepalives_count=3"
         " tcp_user_timeout=20000 " +
         target.url;
}

std::string limit_settings(const SessionLimits& limits, int server_version,
                           const std::string& scope) {
  std::string settings;
  const auto add = [&](const char* name, std::chrono::milliseconds limit) {
    if (limit.count() > 0)
      settings += "; " + scope + " " + name + " = " + std::to_string(limit.count());
  };
  add("lock_timeout", limits.lock_wait);
  add("statement_timeout", limits.statement);
  add("idle_in_transaction_session_timeout", limits.idle_in_transaction);
  if (server_version >= 140000) add("client_connection_check_interval", limits.client_check);
  return settings;
}

std::string session_settings(const SessionLimits& limits, int server_version) {
  return own_settings + limit_settings(limits, server_version, "SET");
}

bool is_outage(const std::string& sqlstate) {
  return sqlstate.starts_with("08") || sqlstate.starts_with("57P") || sqlstate.starts_with("53") ||
         sqlstate.starts_with("58") || sqlstate == "25006" || sqlstate == "25P03";
}

std::string one_line_message(const std::string& server_message) {
  std::string line;
  std::size_t begin = 0;
  bool keep = true;
  for (bool first = true; begin <= server_message.size(); first = false) {
    std::size_t end = server_message.find('\n', begin);
    if (end == std::string::npos) end = server_message.size();
    std::string part = server_message.substr(begin, end - begin);
    begin = end + 1;
    if (first) {
      // "ERROR:  message", the word in the server's language.
      const std::size_t mark = part.find(":  ");
      if (mark != std::string::npos && mark < 20) part.erase(0, mark + 3);
    } else if (part.starts_with("DETAIL:  ")) {
      part.erase(0, 9);
      keep = true;
    } else if (part.starts_with("LINE ") || part.starts_with("CONTEXT:") ||
               part.starts_with("HINT:") || part.starts_with("QUERY:")) {
      keep = false;
    }
    const std::size_t text = part.find_first_not_of(" \t");
    if (!keep || text == std::string::npos) continue;
    if (!line.empty()) line += "; ";
    line += part.substr(text);
  }
  return line;
}

std::string hide_password(std::string text) {
  static const std::regex in_url("(://[^:/@?\\s]*:)[^@\\s]*@");
  static const std::regex in_words("(password\\s*=\\s*)('([^'\\\\]|\\\\.)*'|[^\\s&]+)",
                                   std::regex::icase);
  text = std::regex_replace(text, in_url, "$1***@");
  return std::regex_replace(text, in_words, "$1***");
}

}  // namespace spillway
