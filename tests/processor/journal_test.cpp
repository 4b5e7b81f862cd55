// The log as a thread of its own writes it: to a pipe, read in time or not.
#include "processor/journal.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using test::eventually;

class JournalTest : public testing::Test {
 protected:
  JournalTest() : before(spdlog::default_logger()) {
    if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    options.descriptor = ends[1];
  }
  ~JournalTest() override {
    spdlog::set_default_logger(before);
    for (const int end : ends) close(end);
  }

  // All that was written, by now.
  std::vector<std::string> lines() {
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    std::string text;
    std::array<char, 65536> part{};
    for (ssize_t n = 0; (n = read(ends[0], part.data(), part.size())) > 0;)
      text.append(part.data(), static_cast<std::size_t>(n));
    std::vector<std::string> found;
    std::stringstream stream(text);
    for (std::string line; std::getline(stream, line);) found.push_back(line);
    return found;
  }

  std::shared_ptr<spdlog::logger> before;
  std::array<int, 2> ends{};
  JournalOptions options;
};

TEST_F(JournalTest, WritesInOrderAndAllOfItBeforeItEnds) {
  {
    Journal journal(options);
    for (int i = 0; i < 500; ++i) journal.write({LogLevel::info, "line " + std::to_string(i)});
  }
  const auto found = lines();
  ASSERT_EQ(found.size(), 500u);
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_TRUE(found[i].ends_with(" info line " + std::to_string(i))) << found[i];
}

TEST_F(JournalTest, TakesWhatIsSaidThroughSpdlogInTheSameForm) {
  options.json = true;
  {
    Journal journal(options);
    spdlog::warn("a {}\nb", 1);
    EXPECT_TRUE(logs_are_json());
  }
  spdlog::error("after it");  // at once
  const auto found = lines();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(nlohmann::json::parse(found[0]).at("message"), "a 1\nb");
  EXPECT_EQ(nlohmann::json::parse(found[0]).at("level"), "warn");
  EXPECT_EQ(nlohmann::json::parse(found[1]).at("message"), "after it");
}

TEST_F(JournalTest, LeavesOutWhatIsLessImportant) {
  options.level = LogLevel::warn;
  {
    Journal journal(options);
    EXPECT_FALSE(journal.enabled(LogLevel::info));
    journal.write({LogLevel::info, "no"});
    spdlog::info("no");
    journal.write({LogLevel::warn, "yes"});
  }
  EXPECT_EQ(lines().size(), 1u);
}

TEST_F(JournalTest, AFlushWaitsForWhatWasSaidBefore) {
  Journal journal(options);
  journal.write({LogLevel::info, "before"});
  EXPECT_TRUE(journal.flush(std::chrono::seconds(10)));
  EXPECT_EQ(lines().size(), 1u);
}

TEST_F(JournalTest, NobodyWaitsForAReaderThatDoesNotRead) {
  options.lines = 64;
  options.patience = std::chrono::milliseconds(100);
  const std::string long_line(1000, 'x');
  std::uint64_t lost = 0;
  {
    Journal journal(options);
    // Many times what the pipe and the queue take together: it would wait for ever.
    for (int i = 0; i < 2000; ++i) journal.write({LogLevel::info, long_line});
    journal.write({LogLevel::warn, "the newest"});
    EXPECT_GT(journal.lost(), 1000u);
    EXPECT_FALSE(journal.flush(std::chrono::milliseconds(50)));
    // Somebody reads again.
    std::size_t seen = 0;
    bool newest = false, told = false;
    EXPECT_TRUE(eventually([&] {
      for (const std::string& line : lines()) {
        ++seen;
        newest = newest || line.ends_with("the newest");
        told = told || line.find("lines of this log were lost") != std::string::npos;
      }
      return newest && told;
    }));
    lost = journal.lost();
    for (int i = 0; i < 2000; ++i) journal.write({LogLevel::info, long_line});
  }  // and it ends all the same
  EXPECT_GT(lost, 1000u);
}

TEST_F(JournalTest, WithoutAThreadItIsWrittenAtOnce) {
  write_logs_at_once(options);
  spdlog::warn("first");
  write_log_at_once({LogLevel::info, "second", {{"event_id", 5}}});
  const auto found = lines();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_TRUE(found[0].ends_with(" warn first"));
  EXPECT_TRUE(found[1].ends_with(" info second event_id=5"));
}

}  // namespace
}  // namespace spillway
