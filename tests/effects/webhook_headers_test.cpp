#include "effects/webhook_headers.hpp"

#include <gtest/gtest.h>

namespace spillway {
namespace {

TEST(WebhookHeaders, OrdinaryOnesAreFine) {
  EXPECT_EQ(problem_of_webhook_headers({}), "");
  EXPECT_EQ(problem_of_webhook_headers({{"Authorization", "Bearer x"},
                                        {"Content-Type", "application/cloudevents+json"},
                                        {"x-empty", ""},
                                        {"X-Text", "a\tb \xc3\xbc"}}),
            "");
}

TEST(WebhookHeaders, ALineBreakCannotBringAnotherHeaderAlong) {
  const std::string value = "holds a value of X with a line break or another control character";
  for (const auto& text : {std::string("a\r\nHost: b"), std::string("a\nb"), std::string("a\rb"),
                           std::string("a\0b", 3), std::string("a\x7f"), std::string("a\xff")})
    EXPECT_EQ(problem_of_webhook_headers({{"X", text}}), value);
  const std::string name = "holds a name with characters that a header name cannot hold";
  for (const char* text : {"X:", "X Y", "X\r\nY", "X\n", "\xc3\xbc", "(X)"})
    EXPECT_EQ(problem_of_webhook_headers({{text, "v"}}), name) << text;
  EXPECT_EQ(problem_of_webhook_headers({{"", "v"}}), "holds a header without a name");
}

TEST(WebhookHeaders, ThoseOfTheConnectionAreNotTheEffects) {
  for (const char* name :
       {"Host", "content-length", "Transfer-Encoding", "CONNECTION", "TE", "Trailer", "Upgrade",
        "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Expect", "Idempotency-Key"})
    EXPECT_EQ(problem_of_webhook_headers({{name, "v"}}),
              std::string("may not set ") + name + ", which the sender sets or leaves out");
}

TEST(WebhookHeaders, AreBounded) {
  std::map<std::string, std::string> headers;
  for (int i = 0; i < 32; ++i) headers.emplace("X-" + std::to_string(i), "v");
  EXPECT_EQ(problem_of_webhook_headers(headers), "");
  headers.emplace("X-32", "v");
  EXPECT_EQ(problem_of_webhook_headers(headers), "holds 33 headers; 32 at most");
  EXPECT_EQ(problem_of_webhook_headers({{"X", std::string(4097, 'v')}}),
            "holds a header of more than 4096 bytes");
  EXPECT_EQ(problem_of_webhook_headers({{"X-A", "1"}, {"x-a", "2"}}), "names x-a twice");
}

}  // namespace
}  // namespace spillway
