#include "effects/outbox.hpp"

#include <iterator>
#include <utility>

namespace spillway {
namespace {

// One statement: the head moves and the rows are written with what it moved to. The locked read
// keeps the row's order, `ordinality` that of the batch.
const Statement write_durable{"sw_write_broadcasts", R"(
WITH head AS (
  UPDATE spillway.stream_head SET last = last + $5::bigint, last_ephemeral = last_ephemeral + $6::bigint
  RETURNING last - $5::bigint AS last, last_ephemeral - $6::bigint AS last_ephemeral
), written AS (
  INSERT INTO spillway.broadcasts (position, channel, event_type, data, event_id)
  SELECT head.last + b.ordinality, b.channel, b.event_type, b.data, b.event_id
  FROM head, unnest($1::text[], $2::text[], $3::json[], $4::bigint[])
       WITH ORDINALITY AS b(channel, event_type, data, event_id, ordinality)
)
SELECT last, last_ephemeral FROM head)"};

const Statement write_ephemeral{"sw_write_ephemeral", R"(
INSERT INTO spillway.ephemeral_broadcasts (number, position, channel, event_type, data)
SELECT $5::bigint + b.ordinality, b.position, b.channel, b.event_type, b.data
FROM unnest($1::text[], $2::text[], $3::json[], $4::bigint[])
     WITH ORDINALITY AS b(channel, event_type, data, position, ordinality))"};

const Statement notify_feeds{"sw_notify_feeds", "SELECT pg_notify('spillway_broadcasts', '')"};

}  // namespace

void Outbox::clear() {
  event_ids_.clear();
  pending_.clear();
  durable_ = 0;
}

void Outbox::add(std::int64_t event_id, std::vector<PendingBroadcast> broadcasts) {
  for (PendingBroadcast& broadcast : broadcasts) {
    if (!broadcast.ephemeral) ++durable_;
    event_ids_.push_back(event_id);
    pending_.push_back(std::move(broadcast));
  }
}

void Outbox::write(bool notify) {
  if (empty()) return;
  struct Columns {
    SqlArray channel{SqlArray::Of::texts}, event_type{SqlArray::Of::texts},
        data{SqlArray::Of::jsons}, number{SqlArray::Of::bigints};
    void add(const PendingBroadcast& broadcast, std::int64_t value) {
      channel.add(broadcast.channel);
      event_type.add(broadcast.event_type);
      data.add(broadcast.data_json);
      number.add(value);
    }
  };
  Columns durable;
  for (std::size_t i = 0; i < pending_.size(); ++i)
    if (!pending_[i].ephemeral) durable.add(pending_[i], event_ids_[i]);
  const std::size_t ephemeral_count = pending_.size() - durable_;
  session_.send(write_durable,
                {durable.channel, durable.event_type, durable.data, durable.number,
                 std::to_string(durable_).c_str(), std::to_string(ephemeral_count).c_str()},
                [this](const Rows& head) {
                  base_position_ = head.integer<std::uint64_t>(0, 0);
                  base_ephemeral_ = head.integer<std::uint64_t>(0, 1);
                });

  if (ephemeral_count > 0) {
    session_.finish();  // what follows names the positions
    Columns ephemeral;
    std::uint64_t position = base_position_;
    for (const PendingBroadcast& broadcast : pending_) {
      if (broadcast.ephemeral)
        ephemeral.add(broadcast, static_cast<std::int64_t>(position));
      else
        ++position;
    }
    session_.send(write_ephemeral, {ephemeral.channel, ephemeral.event_type, ephemeral.data,
                                    ephemeral.number, std::to_string(base_ephemeral_).c_str()});
  }
  if (notify) session_.send(notify_feeds, {});
}

sse::BroadcastBatch Outbox::take() {
  sse::BroadcastBatch batch;
  batch.base_position = base_position_;
  batch.base_ephemeral = base_ephemeral_;
  batch.broadcasts.reserve(pending_.size());
  std::uint64_t position = base_position_;
  for (PendingBroadcast& pending : pending_) {
    if (!pending.ephemeral) ++position;
    batch.broadcasts.push_back({position, std::move(pending.channel), std::move(pending.event_type),
                                std::move(pending.is_text ? pending.text : pending.data_json),
                                pending.ephemeral});
  }
  clear();
  return batch;
}

}  // namespace spillway
