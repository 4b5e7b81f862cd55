#include "processor/webhook_decision.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace spillway {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds longest_retry_after{3600'000};

bool is_retryable(int status) {
  return status == 408 || status == 425 || status == 429 || status >= 500;
}

// "Sun, 06 Nov 1994 08:49:37 GMT"
std::optional<std::chrono::sys_seconds> http_date(std::string_view text) {
  constexpr std::array<std::string_view, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  if (text.size() != 29 || text.substr(3, 2) != ", " || text[7] != ' ' || text[11] != ' ' ||
      text[16] != ' ' || text[19] != ':' || text[22] != ':' || text.substr(25) != " GMT")
    return std::nullopt;
  bool digits_only = true;
  const auto number = [&](std::size_t at, std::size_t size) {
    int value = 0;
    for (const char c : text.substr(at, size)) {
      digits_only = digits_only && c >= '0' && c <= '9';
      value = value * 10 + (c - '0');
    }
    return value;
  };
  const auto month = std::find(months.begin(), months.end(), text.substr(8, 3));
  const std::chrono::year_month_day date(
      std::chrono::year(number(12, 4)),
      std::chrono::month(static_cast<unsigned>(month - months.begin()) + 1),
      std::chrono::day(static_cast<unsigned>(std::max(0, number(5, 2)))));
  const int hour = number(17, 2), minute = number(20, 2), second = number(23, 2);
  if (!digits_only || month == months.end() || !date.ok() || hour > 23 || minute > 59 ||
      second > 60)
    return std::nullopt;
  return std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
         std::chrono::seconds(second);
}

std::string describe(const WebhookAnswer& answer) {
  if (answer.status == 0) return answer.error;
  std::string text = "the target answered " + std::to_string(answer.status);
  if (answer.status >= 300 && answer.status < 400) {
    text += ", a redirect";
    if (!answer.location.empty()) text += " to " + answer.location;
    text += "; redirects are not followed, so give the final address";
  }
  return text;
}

}  // namespace

std::optional<milliseconds> retry_after(std::string_view text,
                                        std::chrono::system_clock::time_point now) {
  if (!text.empty() &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    long long seconds = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (parsed.ec != std::errc{} || seconds > 3600) return longest_retry_after;
    return milliseconds(seconds * 1000);
  }
  const auto date = http_date(text);
  if (!date) return std::nullopt;
  return std::clamp(std::chrono::ceil<milliseconds>(*date - now), milliseconds(0),
                    longest_retry_after);
}

WebhookDecision decide(const WebhookAnswer& answer, int attempts, const RetryPolicy& policy,
                       double random, std::chrono::system_clock::time_point now) {
  WebhookDecision decision;
  if (answer.status >= 200 && answer.status < 300) return decision;
  decision.error = describe(answer);
  const bool retryable = answer.status == 0 ? !answer.refused : is_retryable(answer.status);
  if (!retryable || attempts >= policy.max_attempts) {
    decision.kind = WebhookDecision::Kind::dead;
    return decision;
  }
  decision.kind = WebhookDecision::Kind::again;
  decision.delay = std::max(policy.delay(attempts, random),
                            retry_after(answer.retry_after, now).value_or(milliseconds(0)));
  return decision;
}

}  // namespace spillway
