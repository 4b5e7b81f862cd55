#include "processor/schedules.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <bitset>
#include <chrono>
#include <optional>
#include <random>
#include <thread>

#include "tests/support/database.hpp"
#include "tests/support/eventually.hpp"

namespace spillway {
namespace {

using test::Database;

std::string error_of(Database& database, const std::string& sql) {
  try {
    database.query(sql);
  } catch (const SqlError& error) {
    return error.what();
  }
  return "no error";
}

// ---- When ticks come

// The next `count` ticks after a time, as the clock on the wall shows them, with its offset.
std::string ticks(Database& database, const std::string& cron, const std::string& zone,
                  const std::string& after, int count) {
  return database.value(
      "WITH RECURSIVE t(n, at) AS (SELECT 1, spillway.next_tick('" + cron + "', '" + zone + "', '" +
      after + "') UNION ALL SELECT n + 1, spillway.next_tick('" + cron + "', '" + zone +
      "', at) FROM t WHERE n < " + std::to_string(count) + "), s AS (SELECT n, at AT TIME ZONE '" +
      zone + "' AS wall, (at AT TIME ZONE '" + zone +
      "') - (at AT TIME ZONE 'UTC') AS ahead FROM t)"
      " SELECT string_agg(to_char(wall, 'DD HH24:MI') || to_char(extract(epoch FROM ahead) / 60,"
      " 'SGFM999'), ', ' ORDER BY n) FROM s");
}

TEST(Cron, FieldsAreValuesListsRangesStepsAndNames) {
  Database database;
  const auto next = [&](const std::string& cron, const std::string& after) {
    return database.value("SELECT spillway.next_tick('" + cron + "', 'UTC', '" + after + "')");
  };
  EXPECT_EQ(next("* * * * *", "2026-01-31 23:59:59.5+00"), "2026-02-01 00:00:00+00");
  EXPECT_EQ(next("* * * * *", "2026-01-31 12:00:00+00"), "2026-01-31 12:01:00+00");
  EXPECT_EQ(next("5,35 * * * *", "2026-01-31 12:05:00+00"), "2026-01-31 12:35:00+00");
  EXPECT_EQ(next("10-40/15 * * * *", "2026-01-31 12:11:00+00"), "2026-01-31 12:25:00+00");
  EXPECT_EQ(next("*/25 * * * *", "2026-01-31 12:50:00+00"), "2026-01-31 13:00:00+00");
  EXPECT_EQ(next("0 9-17/4 * * *", "2026-01-31 17:00:00+00"), "2026-02-01 09:00:00+00");
  EXPECT_EQ(next("0 0 31 * *", "2026-01-31 00:00:00+00"), "2026-03-31 00:00:00+00");
  EXPECT_EQ(next("0 0 29 2 *", "2026-01-31 00:00:00+00"), "2028-02-29 00:00:00+00");
  EXPECT_EQ(next("0 0 29 2 *", "2096-02-29 00:00:00+00"), "2104-02-29 00:00:00+00");
  EXPECT_EQ(next("0 0 * mar,Nov *", "2026-04-01 00:00:00+00"), "2026-11-01 00:00:00+00");
  EXPECT_EQ(next("\t 30 4  * * MON-FRI ", "2026-01-30 04:30:00+00"), "2026-02-02 04:30:00+00");
  EXPECT_EQ(next("0 0 * * 7", "2026-01-31 00:00:00+00"), "2026-02-01 00:00:00+00");
  EXPECT_EQ(next("0 0 * * FRI-SUN", "2026-02-01 00:00:00+00"), "2026-02-06 00:00:00+00");
  EXPECT_EQ(next("0 0 * * 0-2", "2026-02-03 00:00:00+00"), "2026-02-08 00:00:00+00");
  EXPECT_EQ(next("@hourly", "2026-01-31 12:00:01+00"), "2026-01-31 13:00:00+00");
  EXPECT_EQ(next("@daily", "2026-01-31 12:00:00+00"), "2026-02-01 00:00:00+00");
  EXPECT_EQ(next("@weekly", "2026-02-01 00:00:00+00"), "2026-02-08 00:00:00+00");
  EXPECT_EQ(next("@monthly", "2026-01-31 12:00:00+00"), "2026-02-01 00:00:00+00");
  EXPECT_EQ(next("@Yearly", "2026-01-31 12:00:00+00"), "2027-01-01 00:00:00+00");
}

TEST(Cron, ADayMatchesEitherOfTwoRestrictedFieldsOrBothWhereOneBeginsWithAStar) {
  Database database;
  // February 2026 begins with a Sunday.
  EXPECT_EQ(ticks(database, "0 0 13 * FRI", "UTC", "2026-02-01", 4),
            "06 00:00+0, 13 00:00+0, 20 00:00+0, 27 00:00+0");
  EXPECT_EQ(ticks(database, "0 0 10 * FRI", "UTC", "2026-02-01", 4),
            "06 00:00+0, 10 00:00+0, 13 00:00+0, 20 00:00+0");
  EXPECT_EQ(ticks(database, "0 0 */2 * MON", "UTC", "2026-02-01", 3),
            "09 00:00+0, 23 00:00+0, 09 00:00+0");
  EXPECT_EQ(ticks(database, "0 0 10-20 * *", "UTC", "2026-02-18", 3),
            "19 00:00+0, 20 00:00+0, 10 00:00+0");
  EXPECT_EQ(database.value("SELECT spillway.next_tick('0 0 29 2 */7', 'UTC', '2072-01-01')"),
            "2088-02-29 00:00:00+00")
      << "29 February on a Sunday";
  EXPECT_EQ(database.value("SELECT spillway.next_tick('0 0 29 2 */7', 'UTC', '2089-01-01')"),
            "2128-02-29 00:00:00+00")
      << "2100 has no such day";
}

TEST(Cron, AnAppointedHourThatIsLeftOutComesRightAfterTheGapOnce) {
  Database database;
  EXPECT_EQ(ticks(database, "30 2 * * *", "Europe/Berlin", "2026-03-28 00:00+00", 3),
            "28 02:30+60, 29 03:00+120, 30 02:30+120");
  EXPECT_EQ(ticks(database, "*/20 2,3 * * *", "Europe/Berlin", "2026-03-29 00:00+00", 4),
            "29 03:00+120, 29 03:20+120, 29 03:40+120, 30 02:00+120");
  EXPECT_EQ(ticks(database, "15 2 * * *", "America/New_York", "2026-03-07 05:00+00", 3),
            "07 02:15-300, 08 03:00-240, 09 02:15-240");
  EXPECT_EQ(ticks(database, "15 2 * * *", "Australia/Lord_Howe", "2026-10-02 10:00+00", 3),
            "03 02:15+630, 04 02:30+660, 05 02:15+660");
  EXPECT_EQ(ticks(database, "0 0 * * *", "America/Santiago", "2026-09-05 00:00+00", 3),
            "05 00:00-240, 06 01:00-180, 07 00:00-180");
  // Asked for long before.
  EXPECT_EQ(ticks(database, "30 2 * * SUN", "Europe/Berlin", "2026-03-22 03:00+00", 2),
            "29 03:00+120, 05 02:30+120");
  EXPECT_EQ(ticks(database, "30 2 29 3 *", "Europe/Berlin", "2025-04-01 00:00+00", 1),
            "29 03:00+120");
}

TEST(Cron, AnAppointedHourThatIsRepeatedComesTheFirstTimeOnly) {
  Database database;
  EXPECT_EQ(ticks(database, "30 2 * * *", "Europe/Berlin", "2026-10-24 00:00+00", 3),
            "24 02:30+120, 25 02:30+120, 26 02:30+60");
  // Asked within the second pass.
  EXPECT_EQ(ticks(database, "30 2,3 * * *", "Europe/Berlin", "2026-10-25 01:10+00", 2),
            "25 03:30+60, 26 02:30+60");
  EXPECT_EQ(ticks(database, "*/30 1-2 * * *", "America/New_York", "2026-11-01 05:00+00", 4),
            "01 01:30-240, 01 02:00-300, 01 02:30-300, 02 01:00-300");
  EXPECT_EQ(ticks(database, "45 1 * * *", "Australia/Lord_Howe", "2026-04-03 20:00+00", 3),
            "05 01:45+660, 06 01:45+630, 07 01:45+630");
}

TEST(Cron, WithEveryHourItGoesOnByRealTime) {
  Database database;
  EXPECT_EQ(ticks(database, "30 * * * *", "Europe/Berlin", "2026-10-24 23:00+00", 4),
            "25 01:30+120, 25 02:30+120, 25 02:30+60, 25 03:30+60");
  EXPECT_EQ(ticks(database, "30 0-23 * * *", "Europe/Berlin", "2026-03-29 00:00+00", 3),
            "29 01:30+60, 29 03:30+120, 29 04:30+120");
  EXPECT_EQ(ticks(database, "*/30 */1 * * *", "America/New_York", "2026-11-01 05:00+00", 5),
            "01 01:30-240, 01 01:00-300, 01 01:30-300, 01 02:00-300, 01 02:30-300");
  // The last day but one of the clock change, so that the next tick is a week away.
  EXPECT_EQ(ticks(database, "0 * * * SAT", "America/Santiago", "2026-04-05 01:30+00", 4),
            "04 23:00-180, 04 23:00-240, 11 00:00-240, 11 01:00-240");
}

TEST(Cron, ADayThatACountryLeftOutIsNotMadeUpFor) {
  Database database;
  EXPECT_EQ(ticks(database, "0 12 * * *", "Pacific/Apia", "2011-12-28 12:00+00", 4),
            "28 12:00-600, 29 12:00-600, 31 12:00+840, 01 12:00+840");
  EXPECT_EQ(ticks(database, "0 12 30 * *", "Pacific/Apia", "2011-12-01 00:00+00", 1),
            "30 12:00+840");
  EXPECT_EQ(ticks(database, "0 * * * *", "Pacific/Apia", "2011-12-30 08:30+00", 3),
            "29 23:00-600, 31 00:00+840, 31 01:00+840");
}

// The moments of all ticks from one day to another, as a query.
std::string all_ticks(const std::string& cron, const std::string& zone, const std::string& from,
                      const std::string& until) {
  const std::string next = "spillway.next_tick('" + cron + "', '" + zone + "', ";
  return "WITH RECURSIVE t(at) AS (SELECT " + next + "'" + from + " 00:30+00') UNION ALL SELECT " +
         next + "at) FROM t WHERE at < '" + until + " 00:00+00') ";
}

TEST(Cron, ADailyTickComesOncePerDayAndAnHourlyOneOncePerHour) {
  Database database;
  for (const std::string zone : {"Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
                                 "Asia/Kolkata", "America/Santiago"}) {
    for (const char* cron : {"30 2 * * *", "0 0 * * *", "45 1 * * *"})
      EXPECT_EQ(
          database.value(all_ticks(cron, zone, "2026-01-01", "2026-12-31") +
                         ", d AS (SELECT (at AT TIME ZONE '" + zone +
                         "')::date AS day, count(*) AS n FROM t GROUP BY 1) SELECT bool_and(n = 1)"
                         " AND count(*) = max(day) - min(day) + 1 AND count(*) > 360 FROM d"),
          "t")
          << cron << " " << zone;
    if (zone == "Australia/Lord_Howe") continue;  // its clocks move by half an hour
    for (const auto& [from, until] :
         {std::pair{"2026-03-01", "2026-04-10"}, std::pair{"2026-08-25", "2026-11-05"}})
      EXPECT_EQ(database.value(all_ticks("17 * * * *", zone, from, until) +
                               ", s AS (SELECT at - lag(at) OVER (ORDER BY at) AS step FROM t)"
                               " SELECT count(*) > 900 AND bool_and(step = interval '1 hour')"
                               " FROM s WHERE step IS NOT NULL"),
                "t")
          << zone;
  }
}

// A reference of another making: walks real time minute by minute, like a cron daemon that looks at
// the clock on the wall each minute, and at what that has passed by since the last look.
class Daemon {
 public:
  std::bitset<60> minutes;
  std::bitset<24> hours;
  std::bitset<32> days;
  std::bitset<13> months;
  std::bitset<7> weekdays;
  bool either = false;

  // Changes of the zone's offset: (minute of real time, offset in minutes), ascending.
  using Offsets = std::vector<std::pair<long long, long long>>;

  std::vector<long long> ticks(const Offsets& offsets, long long begin, long long end) const {
    std::vector<long long> found;
    const bool by_real_time = hours.all();
    std::size_t zone = 0;
    long long seen = begin + offsets[0].second - 1;
    for (long long now = begin; now < end; ++now) {
      while (zone + 1 < offsets.size() && offsets[zone + 1].first <= now) ++zone;
      const long long wall = now + offsets[zone].second;
      bool due = false;
      if (by_real_time || wall - seen > 3 * 60 + 1) {
        due = matches(wall);
      } else {
        for (long long reading = seen + 1; reading <= wall; ++reading) due |= matches(reading);
      }
      if (due) found.push_back(now);
      seen = std::max(seen, wall);
    }
    return found;
  }

 private:
  bool matches(long long reading) const {
    const auto time = static_cast<std::size_t>(reading % (24 * 60));
    if (!minutes[time % 60] || !hours[time / 60]) return false;
    const std::chrono::sys_days day{std::chrono::days(reading / (24 * 60))};
    const std::chrono::year_month_day date{day};
    const bool in_days = days[static_cast<unsigned>(date.day())];
    const bool in_weekdays = weekdays[std::chrono::weekday{day}.c_encoding()];
    return months[static_cast<unsigned>(date.month())] &&
           (either ? in_days || in_weekdays : in_days && in_weekdays);
  }
};

// Text of a field and the values it means, made together. The first value is `low`.
template <std::size_t Size>
std::string random_field(std::mt19937& random, unsigned low, std::bitset<Size>& values) {
  const auto pick = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
  const unsigned count = static_cast<unsigned>(Size) - low;
  const auto add = [&](unsigned first, unsigned last, unsigned step) {
    for (unsigned v = first; v <= last; v += step) values.set(v);
  };
  const auto text = [](unsigned v) { return std::to_string(v); };
  std::string field;
  switch (pick(5)) {
    case 0:
      add(low, low + count - 1, 1);
      return "*";
    case 1: {
      const unsigned step = 1 + pick(std::min(count, 9u));
      add(low, low + count - 1, step);
      return "*/" + text(step);
    }
    case 2: {
      const unsigned first = low + pick(count), last = first + pick(low + count - first);
      const unsigned step = 1 + pick(4);
      add(first, last, step);
      return text(first) + "-" + text(last) + (step > 1 ? "/" + text(step) : "");
    }
    default:
      for (unsigned n = 1 + pick(3); n > 0; --n) {
        // Hours around midnight and three are where clocks are moved.
        unsigned value = low + pick(count);
        if (Size == 24 && pick(3) > 0) value = std::vector<unsigned>{0, 1, 2, 3, 23}[pick(5)];
        values.set(value);
        field += (field.empty() ? "" : ",") + text(value);
      }
      return field;
  }
}

TEST(Cron, RandomExpressionsTickWhenADaemonThatLooksEveryMinuteWould) {
  Database database;
  constexpr long long begin = 28401120;  // 2024-01-01, in minutes
  constexpr long long end = begin + 3 * 365 * 24 * 60;
  int compared = 0;
  for (const char* zone : {"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
                           "Asia/Kolkata", "America/Santiago", "America/Nuuk", "America/Havana",
                           "Africa/Cairo", "Antarctica/Troll", "Africa/Casablanca"}) {
    Daemon::Offsets offsets;
    const std::string name = zone;
    const Rows changes = database.query(
        "SELECT m, ahead FROM (SELECT m, ahead, lag(ahead) OVER (ORDER BY m) AS before FROM (SELECT"
        " m, (extract(epoch FROM to_timestamp(m * 60) AT TIME ZONE '" +
        name +
        "') / 60)::bigint - m"
        " AS ahead FROM generate_series(" +
        std::to_string(begin) + "::bigint, " + std::to_string(end) +
        ", 15) m) a) b WHERE ahead IS DISTINCT FROM before ORDER BY m");
    for (std::size_t row = 0; row < changes.size(); ++row)
      offsets.emplace_back(changes.integer(row, 0), changes.integer(row, 1));
    ASSERT_FALSE(offsets.empty());

    for (unsigned seed = 1; seed <= 8; ++seed) {
      std::mt19937 random(seed * 1000 + static_cast<unsigned>(name.size()));
      const auto pick = [&](long long below) {
        return static_cast<long long>(random() % static_cast<std::uint64_t>(below));
      };
      Daemon daemon;
      const std::string minute = random_field(random, 0, daemon.minutes);
      std::string hour = random_field(random, 0, daemon.hours);
      if (seed % 4 == 0) {
        daemon.hours.set();
        hour = "*";
      }
      std::string day = random_field(random, 1, daemon.days);
      std::string month = random_field(random, 1, daemon.months);
      std::string weekday = random_field(random, 0, daemon.weekdays);
      if (seed % 2 == 0) {  // most schedules come every month
        daemon.months.set();
        month = "*";
      }
      if (seed % 3 == 0 || seed >= 7) {
        daemon.days.set();
        day = "*";
      }
      if (seed >= 7) {  // and some every day, those too on which clocks are moved
        daemon.weekdays.set();
        weekday = "*";
      }
      daemon.either = day[0] != '*' && weekday[0] != '*';
      const std::string cron = minute + " " + hour + " " + day + " " + month + " " + weekday;
      const auto expected = daemon.ticks(offsets, begin, end);
      if (expected.empty()) continue;

      // Times to ask at, in microseconds: anywhere, around the changes, and right at ticks.
      std::vector<long long> times;
      const auto ask = [&](long long minutes) {
        const long long fraction = std::vector<long long>{0, 1, 59'999'999}[random() % 3];
        if (minutes >= begin + 2 * 24 * 60 && minutes < end)
          times.push_back(minutes * 60'000'000 + fraction);
      };
      for (int i = 0; i < 10; ++i) ask(begin + pick(end - begin));
      for (int i = 0; i < 5; ++i)
        ask(expected[static_cast<std::size_t>(pick(static_cast<long long>(expected.size())))]);
      for (const auto& change : offsets) {
        ask(change.first - 1440 + pick(1440));
        ask(change.first);
        ask(change.first - pick(20 * 1440));
        for (int i = 0; i < 4; ++i) ask(change.first - 240 + pick(480));
      }
      std::string array = "{";
      for (const long long time : times) append_array_element(array, std::int64_t{time});
      database.query(seed % 2 == 0 ? "SET TimeZone = 'America/New_York'" : "SET TimeZone = 'UTC'");
      const Rows answers = database.query(
          "SELECT extract(epoch FROM spillway.next_tick('" + cron + "', '" + name +
          "', timestamptz 'epoch' + at * interval '1 microsecond'))::bigint FROM unnest('" + array +
          "}'::bigint[]) WITH ORDINALITY AS u(at, n) ORDER BY n");
      ASSERT_EQ(answers.size(), times.size());
      for (std::size_t i = 0; i < times.size(); ++i) {
        const auto next = std::upper_bound(
            expected.begin(), expected.end(), times[i],
            [](long long time, long long tick) { return time < tick * 60'000'000; });
        if (next == expected.end()) {
          EXPECT_GE(answers.integer(i, 0), end * 60);
          continue;
        }
        ++compared;
        ASSERT_EQ(answers.integer(i, 0), *next * 60)
            << cron << " in " << zone << " after " << times[i] << " µs";
      }
    }
  }
  EXPECT_GT(compared, 2000);
}

// ---- What a schedule is

TEST(Schedules, AreRefusedWithASentenceThatSaysWhatToWrite) {
  Database database;
  const auto with_cron = [&](const std::string& cron) {
    return error_of(database, "INSERT INTO spillway.schedules (name, cron, type) VALUES ('s', '" +
                                  cron + "', 'T')");
  };
  const auto with_zone = [&](const std::string& zone) {
    return error_of(database,
                    "INSERT INTO spillway.schedules (name, cron, type, time_zone) VALUES ('s', "
                    "'@daily', 'T', '" +
                        zone + "')");
  };
  EXPECT_EQ(with_cron("60 * * * *"),
            "cron \"60 * * * *\": minute \"60\" is out of range: write 0 to 59");
  EXPECT_EQ(with_cron("0 24 * * *"),
            "cron \"0 24 * * *\": hour \"24\" is out of range: write 0 to 23");
  EXPECT_EQ(with_cron("0 0 0 * *"),
            "cron \"0 0 0 * *\": day of month \"0\" is out of range: write 1 to 31");
  EXPECT_EQ(with_cron("0 0 * * 8"),
            "cron \"0 0 * * 8\": day of week \"8\" is out of range: write 0 to 7 or SUN to SAT");
  EXPECT_EQ(with_cron("0 0 * mon *"),
            "cron \"0 0 * mon *\": month \"MON\" is out of range: write 1 to 12 or JAN to DEC");
  EXPECT_EQ(with_cron("* * * *"),
            "cron \"* * * *\" has 4 field(s): write five, minute hour day-of-month month "
            "day-of-week, e.g. \"30 4 * * MON-FRI\"");
  EXPECT_NE(with_cron("0 * * * * *").find("has 6 field(s): write five"), std::string::npos);
  EXPECT_NE(with_cron(" ").find("has 0 field(s): write five"), std::string::npos);
  EXPECT_EQ(with_cron("@reboot"),
            "cron \"@reboot\" is not known: write @hourly, @daily, @weekly, @monthly, @yearly, or "
            "five fields");
  EXPECT_EQ(with_cron("5/10 * * * *"),
            "cron \"5/10 * * * *\": minute \"5/10\" is a step without a range: write 5-59/10");
  EXPECT_EQ(
      with_cron("*/90 * * * *"),
      "cron \"*/90 * * * *\": a step of 90 in minute \"*/90\" is out of range: write 1 to 60");
  EXPECT_NE(with_cron("*/0 * * * *").find("a step of 0"), std::string::npos);
  EXPECT_EQ(with_cron("0 22-2 * * *"),
            "cron \"0 22-2 * * *\": hour \"22-2\" goes backwards: write 22-23,0-2");
  for (const char* cron : {"? * * * *", "1, * * * *", "1--2 * * * *", "0 0 L * *", "0 0 * * 5#2",
                           "-1 * * * *", "1.5 * * * *", "99999999999 * * * *", "0 0 * * MONDAY"})
    EXPECT_NE(with_cron(cron).find(" is not understood: write *, a value ("), std::string::npos)
        << with_cron(cron);
  EXPECT_EQ(with_cron("0 0 30 2 *"),
            "cron \"0 0 30 2 *\" never comes: no month of it has such a day");
  EXPECT_NE(with_cron("0 0 31 2,APR,11 *").find("never comes"), std::string::npos);

  EXPECT_EQ(with_zone("Berlin"),
            "time_zone \"Berlin\" is not the full name of a time zone: write Europe/Berlin (they "
            "are listed in pg_timezone_names)");
  for (const char* zone : {"CET", "est", "PDT"})
    EXPECT_EQ(with_zone(zone), "time_zone \"" + std::string(zone) +
                                   "\" is an abbreviation, which knows no daylight saving time: "
                                   "write the full name of a time zone, one like Europe/Berlin, or "
                                   "UTC");
  for (const char* zone : {"+03", "<X>-3", "EST5EDT4", "", "Europe/Nowhere", "now"})
    EXPECT_NE(with_zone(zone).find("is not the full name of a time zone: write one like "
                                   "Europe/Berlin, or UTC"),
              std::string::npos)
        << zone << ": " << with_zone(zone);
  EXPECT_EQ(error_of(database,
                     "INSERT INTO spillway.schedules (name, cron, type, missed) VALUES ('s', "
                     "'@daily', 'T', 'run')"),
            "missed is \"run\": write skip or catch-up-one");
  EXPECT_NE(error_of(database,
                     "INSERT INTO spillway.schedules (name, cron, type, context) VALUES ('s', "
                     "'@daily', 'T', '[]')")
                .find("schedules_context_is_object"),
            std::string::npos);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.schedules"), 0);
}

TEST(Schedules, KnowWhenTheyAreDueFromTheMomentTheyAreWritten) {
  Database database;
  const auto fits = [&](const char* cron, const char* zone) {
    return database.value(
        std::string("SELECT next_at = spillway.next_tick('") + cron + "', '" + zone +
        "', clock_timestamp()) AND next_at > clock_timestamp() FROM spillway.schedules");
  };
  database.query(
      "INSERT INTO spillway.schedules (name, cron, type, time_zone) VALUES ('s', '0 0 1 1 *', 'T', "
      "'europe/berlin')");
  EXPECT_EQ(database.value("SELECT time_zone FROM spillway.schedules"), "Europe/Berlin");
  EXPECT_EQ(fits("0 0 1 1 *", "Europe/Berlin"), "t");
  database.query("UPDATE spillway.schedules SET cron = '0 0 1 7 *'");
  EXPECT_EQ(fits("0 0 1 7 *", "Europe/Berlin"), "t");
  database.query("UPDATE spillway.schedules SET time_zone = 'Asia/Tokyo'");
  EXPECT_EQ(fits("0 0 1 7 *", "Asia/Tokyo"), "t");
  EXPECT_NE(error_of(database, "UPDATE spillway.schedules SET cron = '0 0 1 13 *'"), "no error");
  EXPECT_NE(error_of(database, "UPDATE spillway.schedules SET time_zone = 'Asia'"), "no error");

  database.query("UPDATE spillway.schedules SET enabled = false");
  EXPECT_EQ(database.value("SELECT next_at IS NULL FROM spillway.schedules"), "t");
  database.query("UPDATE spillway.schedules SET cron = '0 0 1 8 *', next_at = now()");
  EXPECT_EQ(database.value("SELECT next_at IS NULL FROM spillway.schedules"), "t");
  database.query("UPDATE spillway.schedules SET enabled = true");
  EXPECT_EQ(fits("0 0 1 8 *", "Asia/Tokyo"), "t");

  // By hand: once more now, or not before then.
  database.query("UPDATE spillway.schedules SET next_at = '2026-01-01 00:00+00'");
  database.query("UPDATE spillway.schedules SET payload = '{\"x\":1}'");
  EXPECT_EQ(database.value("SELECT next_at FROM spillway.schedules"), "2026-01-01 00:00:00+00");
  EXPECT_NE(error_of(database, "UPDATE spillway.schedules SET next_at = 'infinity'"), "no error");
  database.query("UPDATE spillway.schedules SET next_at = NULL");
  EXPECT_EQ(fits("0 0 1 8 *", "Asia/Tokyo"), "t");
}

TEST(Schedules, AreTheOwnersAlone) {
  Database database;
  database.query(
      "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'writer') THEN"
      " CREATE ROLE writer; END IF; END$$; GRANT INSERT ON spillway.events TO writer");
  PgConnection session(database.target());
  session.exec("SET ROLE writer");
  for (const char* sql :
       {"INSERT INTO spillway.schedules (name, cron, type) VALUES ('s', '@daily', 'T')",
        "SELECT * FROM spillway.schedules", "DELETE FROM spillway.schedules",
        "SELECT spillway.run_schedules()"})
    EXPECT_THROW(session.exec(sql), SqlError) << sql;
}

// ---- Running them

class RunSchedules : public testing::Test {
 protected:
  void add(const std::string& name, const std::string& cron, const std::string& next_at,
           const std::string& more_columns = "", const std::string& more_values = "") {
    database.query("INSERT INTO spillway.schedules (name, cron, type, next_at" + more_columns +
                   ") VALUES ('" + name + "', '" + cron + "', 'Tick', '" + next_at + "'" +
                   more_values + ")");
  }
  // When the next one is due.
  std::string run(const std::string& present) {
    return database.value("SELECT spillway.run_schedules('" + present + "')");
  }
  // schedule@tick of the events since the last call, in their order.
  std::string events() {
    const std::string made = database.value(
        "SELECT string_agg(concat(context->>'schedule', '@', context->>'tick'), ' ' ORDER BY id)"
        " FROM spillway.events WHERE id > " +
        std::to_string(last_id));
    last_id = database.number("SELECT coalesce(max(id), 0) FROM spillway.events");
    return made;
  }

  Database database;
  long long last_id = 0;
};

TEST_F(RunSchedules, ATickIsAnEventLikeAnyOther) {
  database.query(
      "INSERT INTO spillway.schedules (name, cron, type, payload, stream, context, priority,"
      " max_attempts, next_at) VALUES ('nightly', '0 3 * * *', 'ReportAsked', "
      "'{\"kind\":\"full\"}',"
      " 'reports', '{\"user\":7}', 4, 2, '2026-01-31 03:00+00')");
  EXPECT_EQ(run("2026-01-31 02:59:59.999+00"), "2026-01-31 03:00:00+00");
  EXPECT_EQ(events(), "");
  EXPECT_EQ(run("2026-01-31 03:00:00.001+00"), "2026-02-01 03:00:00+00");
  EXPECT_EQ(run("2026-01-31 03:00:00.002+00"), "2026-02-01 03:00:00+00");
  EXPECT_EQ(
      database.value("SELECT string_agg(concat_ws('|', type, payload, stream, context,"
                     " priority, max_attempts, idempotency_key), ' & ') FROM spillway.events"),
      "ReportAsked|{\"kind\": \"full\"}|reports|{\"tick\": \"2026-01-31T03:00:00Z\", "
      "\"user\": 7, \"schedule\": \"nightly\"}|4|2|schedule:nightly:2026-01-31T03:00:00Z");
  EXPECT_EQ(database.value("SELECT string_agg(status, ' ') FROM spillway.event_status"), "pending");
  EXPECT_EQ(database.value("SELECT concat_ws('|', next_at, last_at, last_event_id, last_error)"
                           " FROM spillway.schedules"),
            "2026-02-01 03:00:00+00|2026-01-31 03:00:00+00|1");
}

TEST_F(RunSchedules, MissedTicksBecomeOneEventByDefault) {
  add("s", "0 * * * *", "2026-01-31 03:00+00");
  EXPECT_EQ(run("2026-01-31 09:59+00"), "2026-01-31 10:00:00+00");
  EXPECT_EQ(events(), "s@2026-01-31T09:00:00Z");
  EXPECT_EQ(database.value("SELECT context->>'missed_since' FROM spillway.events"),
            "2026-01-31T03:00:00Z");
  run("2026-01-31 10:00+00");
  EXPECT_EQ(events(), "s@2026-01-31T10:00:00Z");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events WHERE context ? 'missed_since'"),
            1);
  // Ten years of minutes.
  add("old", "* * * * *", "2016-01-31 00:00+00");
  run("2026-01-31 10:00:30+00");
  EXPECT_EQ(events(), "old@2026-01-31T10:00:00Z");
}

TEST_F(RunSchedules, MissedTicksAreDroppedBySkip) {
  add("s", "0 * * * *", "2026-01-31 03:00+00", ", missed", ", 'skip'");
  EXPECT_EQ(run("2026-01-31 09:01+00"), "2026-01-31 10:00:00+00");
  EXPECT_EQ(events(), "");
  run("2026-01-31 10:00:59.9+00");  // late, but within the minute
  EXPECT_EQ(events(), "s@2026-01-31T10:00:00Z");
  run("2026-01-31 14:00:10+00");  // the last of four
  EXPECT_EQ(events(), "s@2026-01-31T14:00:00Z");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events WHERE context ? 'missed_since'"),
            0);
}

TEST_F(RunSchedules, OneThatWasDisabledBeginsAnewWithoutABurst) {
  add("s", "0 * * * *", "2026-01-31 03:00+00");
  database.query("UPDATE spillway.schedules SET enabled = false");
  EXPECT_EQ(run("2026-01-31 09:59+00"), "");
  database.query("UPDATE spillway.schedules SET enabled = true");
  EXPECT_EQ(run("2026-01-31 09:59+00"),
            database.value("SELECT spillway.next_tick('0 * * * *', 'UTC', clock_timestamp())"));
  EXPECT_EQ(events(), "");
}

TEST_F(RunSchedules, ATimeSetByHandIsATickOfItsOwn) {
  add("s", "0 0 29 2 *", "2026-01-31 03:00:00.25+00");
  EXPECT_EQ(run("2026-01-31 03:00:01+00"), "2028-02-29 00:00:00+00");
  EXPECT_EQ(events(), "s@2026-01-31T03:00:00.25Z");
}

TEST_F(RunSchedules, OneThatFailsIsTriedAgainAndDoesNotStopTheOthers) {
  database.query(
      "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
      " IF NEW.payload ? 'bad' THEN RAISE EXCEPTION 'no % today', NEW.payload->>'bad'; END IF;"
      " RETURN NEW; END$$;"
      "CREATE TRIGGER refuse BEFORE INSERT ON spillway.events FOR EACH ROW EXECUTE FUNCTION "
      "refuse()");
  add("a", "0 * * * *", "2026-01-31 03:00+00");
  add("b", "0 * * * *", "2026-01-31 03:00+00", ", payload", ", '{\"bad\":\"cake\"}'");
  add("c", "0 * * * *", "2026-01-31 03:00+00");
  EXPECT_EQ(run("2026-01-31 03:00:01+00"), "2026-01-31 04:00:00+00");
  EXPECT_EQ(events(), "a@2026-01-31T03:00:00Z c@2026-01-31T03:00:00Z");
  EXPECT_EQ(database.value("SELECT concat_ws('|', next_at, last_at, last_error) FROM "
                           "spillway.schedules WHERE name = 'b'"),
            "2026-01-31 03:00:00+00|no cake today (SQLSTATE P0001)");
  // One that fails in the same way again and again leaves no row versions behind.
  const std::string version =
      database.value("SELECT xmin FROM spillway.schedules WHERE name = 'b'");
  run("2026-01-31 03:00:02+00");
  EXPECT_EQ(database.value("SELECT xmin FROM spillway.schedules WHERE name = 'b'"), version);
  database.query("DROP TRIGGER refuse ON spillway.events");
  run("2026-01-31 03:00:03+00");
  EXPECT_EQ(events(), "b@2026-01-31T03:00:00Z");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.schedules WHERE last_error IS NOT NULL"),
            0);
}

TEST_F(RunSchedules, ATickThatHasItsEventAlreadyIsNotMadeAgain) {
  add("s", "0 * * * *", "2026-01-31 03:00+00");
  run("2026-01-31 03:00+00");
  EXPECT_EQ(events(), "s@2026-01-31T03:00:00Z");
  database.query("UPDATE spillway.schedules SET next_at = '2026-01-31 03:00+00'");  // a restore
  EXPECT_EQ(run("2026-01-31 03:30+00"), "2026-01-31 04:00:00+00");
  EXPECT_EQ(events(), "");
  EXPECT_EQ(database.value("SELECT last_error FROM spillway.schedules"),
            "tick 2026-01-31T03:00:00Z made no event: there is one with idempotency_key "
            "\"schedule:s:2026-01-31T03:00:00Z\" already");
  run("2026-01-31 04:00+00");
  EXPECT_EQ(events(), "s@2026-01-31T04:00:00Z");
  EXPECT_EQ(database.value("SELECT last_error IS NULL FROM spillway.schedules"), "t");
}

TEST_F(RunSchedules, AnEventThatATriggerLeavesOutIsNotTriedAgain) {
  database.query(
      "CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
      "CREATE TRIGGER leave_out BEFORE INSERT ON spillway.events FOR EACH ROW EXECUTE FUNCTION "
      "leave_out()");
  add("s", "0 * * * *", "2026-01-31 03:00+00");
  EXPECT_EQ(run("2026-01-31 03:30+00"), "2026-01-31 04:00:00+00");
  EXPECT_EQ(database.value("SELECT concat_ws('|', last_at, last_error) FROM spillway.schedules"),
            "tick 2026-01-31T03:00:00Z made no event: a trigger on spillway.events left it out");
}

TEST_F(RunSchedules, ALockThatSomebodyHoldsIsNotWaitedForByEachOfThemInTurn) {
  database.query(
      "CREATE TABLE held (n int);"
      "CREATE FUNCTION need_it() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
      " IF NEW.context->>'schedule' <> 'c' THEN INSERT INTO held VALUES (1); END IF;"
      " RETURN NEW; END$$;"
      "CREATE TRIGGER need_it BEFORE INSERT ON spillway.events FOR EACH ROW EXECUTE FUNCTION "
      "need_it();"
      "ALTER FUNCTION spillway.run_schedules(timestamptz) SET lock_timeout = '50ms'");
  for (const char* name : {"a", "b", "c"}) add(name, "0 * * * *", "2026-01-31 03:00+00");
  PgConnection holder(database.target());
  holder.exec("BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE");
  run("2026-01-31 03:00:01+00");
  EXPECT_EQ(events(), "");
  EXPECT_EQ(database.value("SELECT string_agg(name || ': ' || last_error, '; ') FROM "
                           "spillway.schedules"),
            "a: canceling statement due to lock timeout (SQLSTATE 55P03)");
  run("2026-01-31 03:00:02+00");  // now b
  run("2026-01-31 03:00:03+00");
  EXPECT_EQ(events(), "c@2026-01-31T03:00:00Z");
  holder.exec("COMMIT");
  EXPECT_EQ(run("2026-01-31 03:00:04+00"), "2026-01-31 04:00:00+00");
  EXPECT_EQ(events(), "a@2026-01-31T03:00:00Z b@2026-01-31T03:00:00Z");
}

TEST_F(RunSchedules, MoreThanOneCallTakesAreAskedForAgain) {
  database.query(
      "INSERT INTO spillway.schedules (name, cron, type, next_at) SELECT 's' || g, '0 0 * * *',"
      " 'Tick', '2026-01-31 00:00+00' FROM generate_series(1, 1200) g");
  EXPECT_EQ(run("2026-01-31 00:00:05+00"), "2026-01-31 00:00:05+00");
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 1000);
  EXPECT_EQ(run("2026-01-31 00:00:06+00"), "2026-02-01 00:00:00+00");
  EXPECT_EQ(database.number("SELECT count(DISTINCT context->>'schedule') FROM spillway.events"),
            1200);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 1200);
}

TEST_F(RunSchedules, ManySessionsAtOnceMakeOneEventPerTick) {
  constexpr int sessions = 6, minutes = 60, schedules = 5;
  database.query(
      "INSERT INTO spillway.schedules (name, cron, type, next_at) SELECT 's' || g, '* * * * *',"
      " 'Tick', '2026-01-31 00:00+00' FROM generate_series(1, " +
      std::to_string(schedules) + ") g");
  std::barrier together(sessions);
  std::atomic<int> failures{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < sessions; ++i)
      threads.emplace_back([&] {
        std::optional<PgConnection> session(std::in_place, database.target());
        for (int minute = 0; minute < minutes; ++minute) {
          const std::string call =
              "SELECT spillway.run_schedules(timestamptz '2026-01-31 "
              "00:00:01+00' + interval '" +
              std::to_string(minute) + " minutes')";
          together.arrive_and_wait();
          try {
            session->exec(call);
          } catch (const std::exception&) {
            ++failures;
            session.emplace(database.target());
          }
          // Whoever found a row taken must not leave its tick to the next minute.
          together.arrive_and_wait();
        }
      });
  }
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), minutes * schedules);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events WHERE context ? 'missed_since'"),
            0);
  EXPECT_EQ(database.number("SELECT count(*) FROM (SELECT DISTINCT context->>'schedule', "
                            "context->>'tick' FROM spillway.events) t"),
            minutes * schedules);
  EXPECT_EQ(database.value("SELECT bool_and(last_error IS NULL) FROM spillway.schedules"), "t");
}

TEST_F(RunSchedules, ASessionKilledInTheMiddleLeavesTheTickToTheNext) {
  add("s", "0 * * * *", "2026-01-31 03:00+00");
  PgConnection victim(database.target());
  victim.exec("BEGIN; SELECT spillway.run_schedules('2026-01-31 03:00:01+00')");
  // While it is at it, nobody else waits for it or makes the event too.
  EXPECT_EQ(run("2026-01-31 03:00:02+00"), "");
  EXPECT_EQ(events(), "");
  database.query("SELECT pg_terminate_backend(" + std::to_string(victim.backend_pid()) + ")");
  EXPECT_THROW(victim.exec("COMMIT"), ConnectionLost);
  EXPECT_TRUE(
      test::eventually([&] { return run("2026-01-31 03:00:03+00") == "2026-01-31 04:00:00+00"; }));
  EXPECT_EQ(events(), "s@2026-01-31T03:00:00Z");

  PgConnection lucky(database.target());
  lucky.exec("SELECT spillway.run_schedules('2026-01-31 04:00:00+00')");
  database.query("SELECT pg_terminate_backend(" + std::to_string(lucky.backend_pid()) + ")");
  run("2026-01-31 04:00:01+00");
  EXPECT_EQ(events(), "s@2026-01-31T04:00:00Z");
}

TEST_F(RunSchedules, OneThatIsChangedMeanwhileHasItsTickOnceAndGoesByTheNewTime) {
  add("s", "0 * * * *", "2026-01-31 03:00+00");
  PgConnection user(database.target());
  user.exec("BEGIN; UPDATE spillway.schedules SET next_at = '2026-01-31 05:30+00'");
  EXPECT_EQ(run("2026-01-31 03:00:01+00"), "");
  user.exec("COMMIT");
  EXPECT_EQ(run("2026-01-31 03:00:02+00"), "2026-01-31 05:30:00+00");
  EXPECT_EQ(events(), "");
  database.query("DELETE FROM spillway.schedules");
  EXPECT_EQ(run("2026-01-31 05:30:00+00"), "");
}

// ---- The task of a worker

TEST_F(RunSchedules, TheTaskWantsToRunAgainWhenTheNextIsDue) {
  std::vector<std::string> log;
  const auto tasks = schedule_upkeep([&](const std::string& line) { log.push_back(line); });
  ASSERT_EQ(tasks.size(), 1u);
  PgConnection session(database.target());
  EXPECT_FALSE(tasks[0].run(session).has_value());
  database.query(
      "INSERT INTO spillway.schedules (name, cron, type, next_at) VALUES"
      " ('s', '0 0 29 2 *', 'Tick', clock_timestamp() + interval '100 seconds')");
  const auto wait = tasks[0].run(session);
  ASSERT_TRUE(wait.has_value());
  EXPECT_GT(wait->count(), 50'000);
  EXPECT_LE(wait->count(), 100'001);
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 0);
  database.query("UPDATE spillway.schedules SET next_at = clock_timestamp()");
  static_cast<void>(tasks[0].run(session));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 1);
  EXPECT_TRUE(log.empty());
}

TEST_F(RunSchedules, TheTaskReportsAFailingScheduleOnce) {
  database.query(
      "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
      " $$BEGIN RAISE EXCEPTION 'no cake today'; END$$;"
      "CREATE TRIGGER refuse BEFORE INSERT ON spillway.events FOR EACH ROW EXECUTE FUNCTION "
      "refuse()");
  std::vector<std::string> log;
  const auto tasks = schedule_upkeep([&](const std::string& line) { log.push_back(line); });
  PgConnection session(database.target());
  add("s", "0 * * * *", "2026-01-31 03:00+00");
  for (int i = 0; i < 3; ++i) static_cast<void>(tasks[0].run(session));
  EXPECT_EQ(log, std::vector<std::string>{"schedule \"s\": no cake today (SQLSTATE P0001)"});
  database.query("DROP TRIGGER refuse ON spillway.events");
  static_cast<void>(tasks[0].run(session));
  EXPECT_EQ(database.number("SELECT count(*) FROM spillway.events"), 1);
  EXPECT_EQ(log.size(), 1u);
}

}  // namespace
}  // namespace spillway
