#include "processor/outbox_reader.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "sse/channel_name.hpp"

namespace spillway {
namespace {

// One snapshot for all of it: what the head counts must be what the rows show. The lock comes
// before the snapshot, because a dropped partition is gone for older snapshots too: whoever drops
// one moves the floor and waits for this lock, so it happens before the snapshot or after the read.
const char* const begin_snapshot =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
    "LOCK TABLE ONLY spillway.broadcasts IN ACCESS SHARE MODE";

const Statement read_line{"sw_read_line",
                          "SELECT epoch, last, last_ephemeral, floor FROM spillway.stream_head"};

const Statement renew_epoch_sql{"sw_renew_epoch", R"(
UPDATE spillway.stream_head SET epoch = substr(replace(gen_random_uuid()::text, '-', ''), 1, 8)
WHERE epoch = $1 AND last < $2::bigint)"};

// Small data comes along with its row, large data (a null here) one by one, until there is enough:
// so neither a few large broadcasts nor hundreds of them make an answer that does not fit. What is
// compressed counts as large, since its size is not known without unpacking it.
const std::string small_data =
    "CASE WHEN pg_column_compression(data) IS NULL AND pg_column_size(data) <= 4096 THEN data END";

const Statement read_data{"sw_read_data",
                          "SELECT data FROM spillway.broadcasts WHERE position = $1::bigint"};

const Statement read_ephemeral_data{
    "sw_read_ephemeral_data",
    "SELECT data FROM spillway.ephemeral_broadcasts WHERE number = $1::bigint"};

// What the hub is given at a time.
constexpr std::size_t tail_bytes = 4u << 20;

const Statement read_durable{"sw_read_durable",
                             "SELECT position, channel, event_type, " + small_data + R"(
FROM spillway.broadcasts
WHERE position > $1::bigint ORDER BY position LIMIT $2::int)"};

const Statement read_ephemeral{"sw_read_ephemeral",
                               "SELECT position, channel, event_type, " + small_data + R"(,
  number FROM spillway.ephemeral_broadcasts
WHERE number > $1::bigint AND position <= $2::bigint ORDER BY number LIMIT 10000)"};

const Statement read_channel{"sw_read_channel",
                             "SELECT position, channel, event_type, " + small_data + R"(
FROM spillway.broadcasts
WHERE channel = $1 AND position > $2::bigint ORDER BY position LIMIT $3::int)"};

const Statement read_channels{"sw_read_channels",
                              "SELECT position, b.channel, event_type, " + small_data + R"(
FROM unnest($1::text[]) AS c(channel)
CROSS JOIN LATERAL (
  SELECT position, channel, event_type, data FROM spillway.broadcasts
  WHERE broadcasts.channel = c.channel AND position > $2::bigint ORDER BY position LIMIT $3::int) b
ORDER BY b.position LIMIT $3::int)"};

// Prefixes match much of what there is, so the walk is along positions.
const Statement read_prefixes{"sw_read_prefixes",
                              "SELECT position, channel, event_type, " + small_data + R"(
FROM spillway.broadcasts b
WHERE position > $3::bigint
  AND (channel = ANY ($1::text[])
       OR EXISTS (SELECT FROM unnest($2::text[]) AS p(prefix) WHERE starts_with(b.channel, p.prefix)))
ORDER BY position LIMIT $4::int)"};

// The newest of each channel; a partition at a time from the last one on, and no further than
// needed.
const Statement read_newest{"sw_read_newest", R"(
SELECT b.* FROM unnest($1::text[]) AS c(channel)
CROSS JOIN LATERAL (
  SELECT position, channel, event_type, )" + small_data +
                                                  R"( FROM spillway.broadcasts
  WHERE broadcasts.channel = c.channel AND position <= $2::bigint ORDER BY position DESC LIMIT 1) b
LIMIT $3::int)"};

// The same of all channels from $1 to before $2: from one name to the next by the index.
const Statement read_newest_between{"sw_read_newest_between", R"(
WITH RECURSIVE names AS (
  (SELECT channel FROM spillway.broadcasts WHERE channel >= $1 AND channel < $2 ORDER BY channel LIMIT 1)
  UNION ALL
  SELECT (SELECT b.channel FROM spillway.broadcasts b
          WHERE b.channel > names.channel AND b.channel < $2 ORDER BY b.channel LIMIT 1)
  FROM names WHERE names.channel IS NOT NULL)
SELECT b.* FROM names
CROSS JOIN LATERAL (
  SELECT position, channel, event_type, )" + small_data + R"( FROM spillway.broadcasts
  WHERE broadcasts.channel = names.channel AND position <= $3::bigint ORDER BY position DESC LIMIT 1) b
LIMIT $4::int)"};

// Those of latest channels that outlived their partitions.
const Statement read_kept{"sw_read_kept", R"(
SELECT position, channel, event_type, data FROM spillway.latest_broadcasts
WHERE channel = ANY ($1::text[]) AND position <= $2::bigint)"};
const Statement read_kept_between{"sw_read_kept_between", R"(
SELECT position, channel, event_type, data FROM spillway.latest_broadcasts
WHERE channel >= $1 AND channel < $2 AND position <= $3::bigint ORDER BY channel LIMIT $4::int)"};

// Whether nothing that these channels carried behind $4 has been dropped, $5 being the floor as
// this snapshot has it; false also where that is not known. LIMIT: without statistics the one row
// counts as a thousand and the plan as worth compiling, which takes longer than all the rest.
const Statement nothing_lost{"sw_nothing_lost", R"(
SELECT k.upto >= $5::bigint AND k.since <= $4::bigint
  AND NOT EXISTS (
    SELECT FROM spillway.channel_floors f
    WHERE f.channel = ANY ($1::text[])
      AND CASE WHEN f.next <= $5::bigint THEN f.next ELSE f.position END > $4::bigint)
  AND NOT EXISTS (
    SELECT FROM unnest($2::text[], $3::text[]) AS p(first, past)
    CROSS JOIN LATERAL (
      SELECT FROM spillway.channel_floors f
      WHERE f.channel >= p.first AND f.channel < p.past
        AND CASE WHEN f.next <= $5::bigint THEN f.next ELSE f.position END > $4::bigint
      LIMIT 1) lost)
FROM (SELECT since, upto FROM spillway.channel_floors_known LIMIT 1) k)"};

// A JSON string travels as its text, anything else as it is written.
std::string text_of(std::string_view data) {
  if (data.starts_with('"')) {
    const auto parsed = nlohmann::json::parse(data, nullptr, false);
    if (parsed.is_string()) return parsed.get<std::string>();
  }
  return std::string(data);
}

// Turns rows into broadcasts until they have `most` bytes; false when some are left out then.
bool take(SqlSession& session, const Rows& rows, bool ephemeral, std::size_t most,
          std::vector<sse::Broadcast>& broadcasts) {
  std::size_t bytes = 0;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (bytes >= most) return false;
    sse::Broadcast next{rows.integer<std::uint64_t>(row, 0), rows.string(row, 1),
                        rows.string(row, 2), "", ephemeral};
    if (!rows.is_null(row, 3)) {
      next.data = text_of(rows.text(row, 3));
    } else {
      const Rows large = session.run(ephemeral ? read_ephemeral_data : read_data,
                                     {rows.string(row, ephemeral ? 4 : 0).c_str()});
      if (large.empty()) throw SqlError("02000", "a broadcast went out of its own snapshot");
      next.data = text_of(large.text(0, 0));
    }
    bytes += next.data.size() + next.event_type.size() + next.channel.size();
    broadcasts.push_back(std::move(next));
  }
  return true;
}

// Channels as arrays: exact names, and of patterns the prefix and the first name behind all that
// have it.
struct ChannelArrays {
  explicit ChannelArrays(const std::vector<std::string>& channels) {
    for (const std::string& channel : channels) {
      if (const auto before = sse::pattern_prefix(channel)) {
        std::string prefix(*before);
        append_array_element(prefixes, prefix);
        prefix.back() = ':' + 1;
        append_array_element(past, prefix);
      } else {
        append_array_element(exact, channel);
      }
    }
    patterns = prefixes.size() > 1;
    for (std::string* array : {&exact, &prefixes, &past}) *array += '}';
  }
  std::string exact = "{", prefixes = "{", past = "{";
  bool patterns = false;
};

// Ends the read-only transaction on every way out.
template <typename Read>
auto in_snapshot(SqlSession& session, Read&& read) {
  session.exec(begin_snapshot);
  try {
    auto result = read();
    session.exec("COMMIT");
    return result;
  } catch (const SqlError&) {
    session.exec("ROLLBACK");
    throw;
  }
}

}  // namespace

OutboxReader::Line OutboxReader::line() {
  const Rows rows = session_.run(read_line);
  if (rows.empty()) throw SqlError("P0002", "spillway.stream_head has no row");
  return {{rows.string(0, 0), rows.integer<std::uint64_t>(0, 1), rows.integer<std::uint64_t>(0, 2)},
          rows.integer<std::uint64_t>(0, 3)};
}

sse::Head OutboxReader::renew_epoch(const sse::Head& known) {
  session_.run(renew_epoch_sql, {known.epoch.c_str(), std::to_string(known.position).c_str()});
  return line().head;
}

OutboxReader::Tail OutboxReader::read_after(const sse::Head& known, std::size_t limit) {
  return in_snapshot(session_, [&] {
    Tail tail;
    const Line now = line();
    tail.head = now.head;
    tail.floor = now.floor;
    if (known.position < now.floor) return tail;
    tail.batch.base_position = known.position;
    tail.batch.base_ephemeral = known.ephemeral;
    auto& broadcasts = tail.batch.broadcasts;
    if (tail.head.position > known.position) {
      const Rows rows = session_.run(
          read_durable, {std::to_string(known.position).c_str(), std::to_string(limit).c_str()});
      const bool all = take(session_, rows, false, tail_bytes, broadcasts);
      tail.more = !all || rows.size() == limit;
    }
    if (tail.head.ephemeral > known.ephemeral) {
      const std::uint64_t upto =
          tail.more ? broadcasts.back().position : std::max(tail.head.position, known.position);
      const Rows rows = session_.run(
          read_ephemeral, {std::to_string(known.ephemeral).c_str(), std::to_string(upto).c_str()});
      if (rows.empty()) {
        if (!tail.more) tail.lost_ephemeral = tail.head.ephemeral;
      } else {
        const auto first = rows.integer<std::uint64_t>(0, 4);
        if (first > known.ephemeral + 1) tail.lost_ephemeral = first - 1;
        tail.batch.base_ephemeral = first - 1;
        if (!take(session_, rows, true, tail_bytes, broadcasts)) tail.more = true;
        // An ephemeral one stands behind the durable one whose position it carries.
        std::stable_sort(broadcasts.begin(), broadcasts.end(),
                         [](const auto& a, const auto& b) { return a.position < b.position; });
      }
    }
    return tail;
  });
}

sse::ReplayPage OutboxReader::read_page(const sse::ReplayRequest& request) {
  return in_snapshot(session_, [&] {
    const Line now = line();
    const ChannelArrays arrays(request.channels);
    sse::ReplayPage page;
    page.head = now.head;
    page.floor = now.floor;
    page.upto = now.head.position;
    if (request.after && *request.after < now.floor) {
      const std::string from = std::to_string(*request.after);
      const Rows rows = session_.run(
          nothing_lost, {arrays.exact.c_str(), arrays.prefixes.c_str(), arrays.past.c_str(),
                         from.c_str(), std::to_string(now.floor).c_str()});
      if (!rows.empty() && rows.boolean(0, 0)) page.floor = *request.after;
    }
    const std::uint64_t after = std::max(request.after.value_or(now.floor), now.floor);
    if (after >= now.head.position) return page;

    const std::string position = std::to_string(after);
    const std::string limit = std::to_string(request.limit);
    const Rows rows =
        arrays.patterns
            ? session_.run(read_prefixes, {arrays.exact.c_str(), arrays.prefixes.c_str(),
                                           position.c_str(), limit.c_str()})
        : request.channels.size() == 1
            ? session_.run(read_channel,
                           {request.channels.front().c_str(), position.c_str(), limit.c_str()})
            : session_.run(read_channels, {arrays.exact.c_str(), position.c_str(), limit.c_str()});
    page.broadcasts.reserve(rows.size());
    const bool all = take(session_, rows, false, request.bytes, page.broadcasts);
    if (!all || rows.size() == request.limit) page.upto = page.broadcasts.back().position;
    return page;
  });
}

sse::LatestPage OutboxReader::read_latest(const sse::LatestRequest& request) {
  return in_snapshot(session_, [&] {
    sse::LatestPage page;
    page.head = line().head;
    page.complete = true;
    const std::string upto = std::to_string(request.upto);
    const std::string limit = std::to_string(request.limit);
    std::map<std::string, sse::Broadcast> newest;
    const auto add = [&](const Rows& rows) {
      std::vector<sse::Broadcast> some;
      if (!take(session_, rows, false, request.bytes, some) || rows.size() >= request.limit)
        page.complete = false;
      for (sse::Broadcast& broadcast : some) {
        sse::Broadcast& known = newest[broadcast.channel];
        if (known.position < broadcast.position) known = std::move(broadcast);
      }
    };
    std::vector<std::string> exact;
    for (const std::string& channel : request.channels) {
      if (!channel.ends_with(":*")) {
        exact.push_back(channel);
        continue;
      }
      const std::string first = channel.substr(0, channel.size() - 1);
      std::string past = first;
      past.back() = ':' + 1;
      for (const Statement* read : {&read_newest_between, &read_kept_between})
        add(session_.run(*read, {first.c_str(), past.c_str(), upto.c_str(), limit.c_str()}));
    }
    if (!exact.empty()) {
      const ChannelArrays arrays(exact);
      add(session_.run(read_newest, {arrays.exact.c_str(), upto.c_str(), limit.c_str()}));
      add(session_.run(read_kept, {arrays.exact.c_str(), upto.c_str()}));
    }
    if (newest.size() > request.limit) page.complete = false;
    for (auto& [channel, broadcast] : newest)
      if (page.broadcasts.size() < request.limit) page.broadcasts.push_back(std::move(broadcast));
    return page;
  });
}

}  // namespace spillway
