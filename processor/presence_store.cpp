#include "processor/presence_store.hpp"

#include <optional>

namespace spillway {
namespace {

const Statement begin_sql{"sw_presence_begin", R"(
WITH gone AS (DELETE FROM spillway.subscribers WHERE worker = $1::bigint)
INSERT INTO spillway.stream_servers (worker, version, floor) VALUES ($1::bigint, $2::bigint, $2::bigint)
ON CONFLICT (worker) DO UPDATE SET version = excluded.version, floor = excluded.floor)"};

// Nothing is written without the process's own row: rows that nobody would ever remove.
const Statement write_sql{"sw_presence_write", R"(
WITH own AS (UPDATE spillway.stream_servers SET version = $2::bigint WHERE worker = $1::bigint RETURNING worker),
changes AS (
  SELECT own.worker, c.channel, c.member, c.connections, CASE WHEN c.told THEN $2::bigint END AS version
  FROM own, unnest($3::text[], $4::text[], $5::int[], $6::bool[]) AS c(channel, member, connections, told)
), gone AS (
  DELETE FROM spillway.subscribers s USING changes c
  WHERE s.worker = c.worker AND s.channel = c.channel AND s.member = c.member
    AND c.connections = 0 AND c.version IS NULL
), written AS (
  INSERT INTO spillway.subscribers (worker, channel, member, connections, version)
  SELECT worker, channel, member, connections, version FROM changes
  WHERE connections > 0 OR version IS NOT NULL
  ON CONFLICT (worker, channel, member) DO UPDATE
  SET connections = excluded.connections, version = excluded.version
)
SELECT worker FROM own)"};

const Statement is_there_sql{"sw_presence_is_there",
                             "SELECT FROM spillway.stream_servers WHERE worker = $1::bigint"};

const Statement purge_sql{"sw_presence_purge", R"(
WITH gone AS (
  DELETE FROM spillway.subscribers WHERE worker = $1::bigint AND version <= $2::bigint AND connections = 0)
UPDATE spillway.stream_servers SET floor = greatest(floor, $2::bigint) WHERE worker = $1::bigint)"};

const Statement leave_sql{"sw_presence_leave", R"(
WITH gone AS (DELETE FROM spillway.subscribers WHERE worker = $1::bigint)
DELETE FROM spillway.stream_servers WHERE worker = $1::bigint)"};

const Statement notify_sql{"sw_presence_notify", "SELECT pg_notify('spillway_presence', '')"};

const Statement others_sql{"sw_presence_others", R"(
SELECT s.worker, s.version, s.floor FROM spillway.stream_servers s
WHERE s.worker <> $1::bigint AND s.worker IN (SELECT id FROM spillway.live_workers))"};

const Statement newer_sql{"sw_presence_newer", R"(
SELECT version, channel, member, connections FROM spillway.subscribers
WHERE worker = $1::bigint AND version > $2::bigint AND channel = ANY ($3::text[])
ORDER BY version LIMIT $4::int)"};

const Statement on_channels_sql{"sw_presence_on_channels", R"(
SELECT worker, channel, member, connections FROM spillway.subscribers
WHERE worker = ANY ($1::bigint[]) AND channel = ANY ($2::text[]) AND connections > 0 AND version IS NOT NULL
LIMIT $3::int)"};

const Statement count_elsewhere_sql{"sw_count_elsewhere", R"(
SELECT channel, sum(connections)::bigint FROM spillway.subscribers
WHERE worker <> $1::bigint AND worker IN (SELECT id FROM spillway.live_workers) AND starts_with(channel, $2)
GROUP BY channel HAVING sum(connections) > 0)"};

// The processes that have rows are found from one to the next in the index.
const Statement drop_dead_sql{"sw_presence_drop_dead", R"(
WITH RECURSIVE own_rows(worker) AS (
  SELECT min(worker) FROM spillway.subscribers
  UNION ALL
  SELECT (SELECT min(s.worker) FROM spillway.subscribers s WHERE s.worker > o.worker)
  FROM own_rows o WHERE o.worker IS NOT NULL
), dead AS MATERIALIZED (
  SELECT worker FROM (SELECT worker FROM own_rows WHERE worker IS NOT NULL
                      UNION SELECT worker FROM spillway.stream_servers) w
  WHERE worker NOT IN (SELECT id FROM spillway.live_workers)
), gone AS (
  DELETE FROM spillway.subscribers WHERE worker IN (SELECT worker FROM dead)
)
DELETE FROM spillway.stream_servers WHERE worker IN (SELECT worker FROM dead))"};

std::string text_array(const std::vector<std::string>& elements) {
  std::string array = "{";
  for (const std::string& element : elements) append_array_element(array, element);
  return array += '}';
}

}  // namespace

void PresenceStore::begin(std::int64_t worker, std::int64_t version) {
  session_.run(begin_sql, {std::to_string(worker).c_str(), std::to_string(version).c_str()});
}

bool PresenceStore::write(std::int64_t worker, std::int64_t version,
                          const std::vector<SubscriberRow>& rows) {
  std::string channels = "{", members = "{", connections = "{", told = "{";
  for (const SubscriberRow& row : rows) {
    append_array_element(channels, row.channel);
    append_array_element(members, row.member);
    append_array_element(connections, std::int64_t{row.connections});
    append_array_element(told, std::string_view(row.told ? "t" : "f"));
  }
  for (std::string* array : {&channels, &members, &connections, &told}) *array += '}';
  return !session_
              .run(write_sql,
                   {std::to_string(worker).c_str(), std::to_string(version).c_str(),
                    channels.c_str(), members.c_str(), connections.c_str(), told.c_str()})
              .empty();
}

bool PresenceStore::is_there(std::int64_t worker) {
  return !session_.run(is_there_sql, {std::to_string(worker).c_str()}).empty();
}

void PresenceStore::purge(std::int64_t worker, std::int64_t version) {
  session_.run(purge_sql, {std::to_string(worker).c_str(), std::to_string(version).c_str()});
}

void PresenceStore::leave(std::int64_t worker) {
  session_.run(leave_sql, {std::to_string(worker).c_str()});
}

void PresenceStore::notify() {
  session_.run(notify_sql);
}

std::vector<StreamServer> PresenceStore::others(std::int64_t own) {
  const Rows rows = session_.run(others_sql, {std::to_string(own).c_str()});
  std::vector<StreamServer> servers;
  for (std::size_t i = 0; i < rows.size(); ++i)
    servers.push_back({rows.integer(i, 0), rows.integer(i, 1), rows.integer(i, 2)});
  return servers;
}

std::vector<PresenceStore::Newer> PresenceStore::newer(std::int64_t worker, std::int64_t version,
                                                       const std::vector<std::string>& channels,
                                                       std::size_t limit) {
  const Rows rows =
      session_.run(newer_sql, {std::to_string(worker).c_str(), std::to_string(version).c_str(),
                               text_array(channels).c_str(), std::to_string(limit).c_str()});
  std::vector<Newer> newer;
  newer.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i)
    newer.push_back(
        {rows.integer(i, 0),
         {rows.string(i, 1), rows.string(i, 2), rows.integer<std::uint32_t>(i, 3), true}});
  return newer;
}

std::vector<std::pair<std::int64_t, SubscriberRow>> PresenceStore::on_channels(
    const std::vector<std::int64_t>& workers, const std::vector<std::string>& channels,
    std::size_t limit) {
  const Rows rows =
      session_.run(on_channels_sql, {integer_array(workers).c_str(), text_array(channels).c_str(),
                                     std::to_string(limit).c_str()});
  std::vector<std::pair<std::int64_t, SubscriberRow>> found;
  found.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i)
    found.emplace_back(rows.integer(i, 0), SubscriberRow{rows.string(i, 1), rows.string(i, 2),
                                                         rows.integer<std::uint32_t>(i, 3), true});
  return found;
}

std::vector<ChannelCount> count_elsewhere(SqlSession& session, std::int64_t own,
                                          const std::string& prefix) {
  const Rows rows = session.run(count_elsewhere_sql, {std::to_string(own).c_str(), prefix.c_str()});
  std::vector<ChannelCount> counts;
  counts.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i)
    counts.push_back({rows.string(i, 0), rows.integer<std::uint64_t>(i, 1)});
  return counts;
}

MaintenanceTask presence_upkeep() {
  return {"removing subscribers of ended processes", std::chrono::milliseconds(5000),
          [](SqlSession& session) -> std::optional<std::chrono::milliseconds> {
            session.run(drop_dead_sql);
            return std::nullopt;
          }};
}

}  // namespace spillway
