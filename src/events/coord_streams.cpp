// notify and durable streams (E20, E21).
#include <cerrno>

#include "events/internal/coord_state.h"

namespace indra::coord {
namespace {

constexpr std::int64_t kNotificationsKept = 100'000;

Result<void> notify(Call& c) {
  INDRA_LET(const std::string channel, c.name(0, "channel"));
  INDRA_LET(sqlite3_value * payload, c.payload(1));
  INDRA_TRY(Query{c.s, "INSERT INTO indra_notifications(channel, payload, created) VALUES(?1, ?2, ?3)"}
                .bind(channel, payload, c.s.now())
                .run());
  const std::int64_t id = sqlite3_last_insert_rowid(c.s.db);
  if (id % 256 == 0)
    INDRA_TRY(
        Query{c.s, "DELETE FROM indra_notifications WHERE id <= ?1"}.bind(id - kNotificationsKept).run());
  c.s.wakes = true;
  c.answer(id);
  return {};
}

Result<void> publish(Call& c) {
  INDRA_LET(const std::string topic, c.name(0, "topic"));
  INDRA_LET(sqlite3_value * payload, c.payload(1));
  std::optional<std::string> key;
  if (c.has(2)) {
    INDRA_LET(key, c.name(2, "key"));
  }
  {
    Query q{c.s, "SELECT 1 FROM indra_streams WHERE topic = ?1"};
    INDRA_LET(const bool row, q.bind(topic).step());
    if (!row)
      INDRA_TRY(Query{c.s, "INSERT INTO indra_streams(topic, trimmed) VALUES(?1, 0)"}.bind(topic).run());
  }
  INDRA_TRY(Query{c.s, "INSERT INTO indra_events(topic, key, payload, created) VALUES(?1, ?2, ?3, ?4)"}
                .bind(topic, key, payload, c.s.now())
                .run());
  c.s.wakes = true;
  c.answer(static_cast<std::int64_t>(sqlite3_last_insert_rowid(c.s.db)));
  return {};
}

/// Up to where the topic was trimmed. ENOENT for a topic that nobody has published to.
Result<std::int64_t> trimmed(State& s, const std::string& topic) {
  Query q{s, "SELECT trimmed FROM indra_streams WHERE topic = ?1"};
  INDRA_LET(const bool row, q.bind(topic).step());
  if (!row) return fail(ENOENT, "there is no stream '" + topic + "': nobody has published to it yet");
  return q.integer(0);
}

Result<std::int64_t> newest(State& s, const std::string& topic) {
  Query q{s, "SELECT MAX(offset) FROM indra_events WHERE topic = ?1"};
  INDRA_TRY(q.bind(topic).step());
  const std::int64_t last = q.null(0) ? 0 : q.integer(0);
  INDRA_LET(const std::int64_t gone, trimmed(s, topic));
  return std::max(last, gone);
}

Result<void> read_events(Call& c) {
  INDRA_LET(const std::string topic, c.name(0, "topic"));
  INDRA_LET(const std::int64_t after, c.integer(1, "offset", 0, INT64_MAX));
  INDRA_LET(const std::int64_t limit, c.integer(2, "limit", 1, 100'000));
  INDRA_LET(const std::int64_t gone, trimmed(c.s, topic));
  if (after < gone)
    return fail(ESTALE, "events of '" + topic + "' up to " + std::to_string(gone) +
                            " were trimmed; to leave them out, go on from " + std::to_string(gone));
  Query q{c.s,
          "SELECT offset, key, payload, created FROM indra_events WHERE topic = ?1 AND offset > ?2 ORDER BY "
          "offset LIMIT "
          "?3"};
  q.bind(topic, after, limit);
  Json all = Json::array();
  for (;;) {
    INDRA_LET(const bool row, q.step());
    if (!row) break;
    all.push_back({{"offset", q.integer(0)},
                   {"key", q.json(1)},
                   {"payload", q.json(2)},
                   {"time", static_cast<double>(q.integer(3)) / 1000}});
  }
  c.answer(all);
  return {};
}

Result<void> save_offset(Call& c) {
  INDRA_LET(const std::string topic, c.name(0, "topic"));
  INDRA_LET(const std::string consumer, c.name(1, "consumer"));
  INDRA_LET(const std::int64_t offset, c.integer(2, "offset", 0, INT64_MAX));
  INDRA_LET(const std::int64_t last, newest(c.s, topic));
  if (offset > last)
    return fail(EINVAL, "offset " + std::to_string(offset) + " is beyond the newest event of '" + topic +
                            "', " + std::to_string(last));
  INDRA_TRY(Query{
      c.s,
      "INSERT INTO indra_consumers(topic, consumer, offset, updated) VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO "
      "UPDATE SET offset = MAX(offset, ?3), updated = ?4"}
                .bind(topic, consumer, offset, c.s.now())
                .run());
  c.answer(offset);
  return {};
}

Result<void> get_offset(Call& c) {
  INDRA_LET(const std::string topic, c.name(0, "topic"));
  INDRA_LET(const std::string consumer, c.name(1, "consumer"));
  Query q{c.s, "SELECT offset FROM indra_consumers WHERE topic = ?1 AND consumer = ?2"};
  INDRA_LET(const bool row, q.bind(topic, consumer).step());
  c.answer(row ? q.integer(0) : std::int64_t{0});
  return {};
}

Result<void> trim(Call& c) {
  INDRA_LET(const std::string topic, c.name(0, "topic"));
  INDRA_LET(const std::int64_t upto, c.integer(1, "offset", 0, INT64_MAX));
  INDRA_LET(const std::int64_t last, newest(c.s, topic));
  if (upto > last)
    return fail(EINVAL, "offset " + std::to_string(upto) + " is beyond the newest event of '" + topic +
                            "', " + std::to_string(last));
  INDRA_TRY(Query{c.s, "DELETE FROM indra_events WHERE topic = ?1 AND offset <= ?2"}.bind(topic, upto).run());
  c.answer(std::int64_t{sqlite3_changes(c.s.db)});
  return Query{c.s, "UPDATE indra_streams SET trimmed = MAX(trimmed, ?2) WHERE topic = ?1"}
      .bind(topic, upto)
      .run();
}

}  // namespace

const std::vector<Function> kStreamFunctions = {
    {"indra_notify", 1, 2, true, notify, "channel, payload"},
    {"indra_publish", 2, 3, true, publish, "topic, payload, key"},
    {"indra_read", 3, 3, false, read_events, "topic, after, limit"},
    {"indra_consumer_save", 3, 3, true, save_offset, "topic, consumer, offset"},
    {"indra_consumer_offset", 2, 2, false, get_offset, "topic, consumer"},
    {"indra_trim", 2, 2, true, trim, "topic, upto"},
};

}  // namespace indra::coord
