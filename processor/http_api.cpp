#include "processor/http_api.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "processor/channel_list.hpp"
#include "processor/dead_letters.hpp"
#include "processor/embedded_file.hpp"
#include "processor/enqueue.hpp"
#include "processor/handlers_of_type.hpp"
#include "processor/retry_policy.hpp"
#include "processor/status.hpp"
#include "sse/address.hpp"

namespace spillway {
namespace page {
extern const EmbeddedFile files[];
extern const std::size_t files_count;
}  // namespace page

namespace {

using nlohmann::json;
using sse::HttpRequest;
using sse::HttpResponse;
using sse::Respond;
using sse::Right;

constexpr std::size_t connections = 2;
constexpr std::size_t most_waiting = 1000;

HttpResponse json_response(unsigned status, const json& body) {
  return {status,
          "application/json",
          body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n",
          {}};
}

HttpResponse error_response(unsigned status, const std::string& text) {
  return json_response(status, {{"error", text}});
}

HttpResponse unavailable(const std::string& text) {
  HttpResponse response = error_response(503, text);
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

// Answers once; if the job is dropped before it ran, it says so.
class Answer {
 public:
  explicit Answer(Respond respond) : respond_(std::move(respond)) {}
  ~Answer() { give(unavailable("too many requests wait for the database; try again")); }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;
  void give(HttpResponse response) {
    if (auto respond = std::exchange(respond_, nullptr)) respond(std::move(response));
  }

 private:
  Respond respond_;
};

// Runs `work` on a database connection and answers with what it returns.
void with_database(JobPool& pool, Respond respond,
                   std::function<HttpResponse(PgConnection&)> work) {
  auto answer = std::make_shared<Answer>(std::move(respond));
  static_cast<void>(pool.post([answer, work = std::move(work)](PgConnection* connection) {
    if (connection == nullptr) return answer->give(unavailable("the database is away; try again"));
    try {
      answer->give(work(*connection));
    } catch (const SqlError& error) {
      const FailureClass failure = classify(error.sqlstate());
      if (failure == FailureClass::outage || failure == FailureClass::batch)
        return answer->give(unavailable(error.what()));
      const bool conflict = error.sqlstate() == "23505";
      answer->give(error_response(conflict ? 409 : 400, error.what()));
    } catch (const ConnectionLost&) {
      // The insert may have happened: only an idempotency_key makes trying again safe.
      answer->give(
          unavailable("the connection to the database was lost and the outcome is not known; "
                      "give events an idempotency_key and try again"));
    }
  }));
}

// The seconds of `?wait=`, none without it. Throws BadEvent when they are not 0 to 300.
std::optional<std::chrono::milliseconds> wait_of(const std::string& query) {
  for (std::size_t begin = 0; begin < query.size();) {
    const std::size_t end = std::min(query.find('&', begin), query.size());
    const std::string_view part(query.data() + begin, end - begin);
    begin = end + 1;
    if (!part.starts_with("wait=")) continue;
    double seconds = -1;
    const auto parsed = std::from_chars(part.data() + 5, part.data() + part.size(), seconds);
    if (parsed.ec != std::errc{} || parsed.ptr != part.data() + part.size() || !(seconds >= 0) ||
        seconds > 300)
      throw BadEvent("wait takes seconds, 0 to 300, e.g. /events?wait=5");
    return std::chrono::milliseconds(static_cast<long long>(seconds * 1000));
  }
  return std::nullopt;
}

// A broadcast by hand is for who may write SQL.
void refuse_own_types(const json& events) {
  const auto check = [](const json& event) {
    const auto& type = event.at("type").get_ref<const std::string&>();
    if (type.starts_with(own_types_prefix))
      throw BadEvent("type \"" + type + "\": types that begin with \"" +
                     std::string(own_types_prefix) + "\" are spillway's own; choose another name");
  };
  if (events.is_array())
    for (const json& event : events) check(event);
  else
    check(events);
}

// The filters and the limit of GET /api/dead. Throws std::invalid_argument naming the parameter.
std::pair<DeadFilter, std::size_t> dead_query(const std::string& query) {
  DeadFilter filter;
  std::size_t limit = 50;
  for (std::size_t begin = 0; begin < query.size();) {
    const std::size_t end = std::min(query.find('&', begin), query.size());
    const std::string_view part(query.data() + begin, end - begin);
    begin = end + 1;
    const std::size_t sign = std::min(part.find('='), part.size());
    const std::string_view name = part.substr(0, sign);
    const auto value = sse::percent_decode(part.substr(std::min(sign + 1, part.size())), true);
    if (!value || value->find('\0') != std::string::npos)
      throw std::invalid_argument(std::string(name) + ": is not percent-encoded text");
    if (value->empty()) continue;
    if (name == "type") filter.types.push_back(*value);
    if (name == "error") filter.error = *value;
    if (name == "sqlstate") filter.sqlstate = *value;
    if (name == "stream") filter.stream = *value;
    if (name == "since") filter.since = *value;
    if (name == "until") filter.until = *value;
    if (name == "limit") {
      const auto parsed = std::from_chars(value->data(), value->data() + value->size(), limit);
      if (parsed.ec != std::errc{} || parsed.ptr != value->data() + value->size() || limit < 1 ||
          limit > 1000)
        throw std::invalid_argument("limit takes a number, 1 to 1000");
    }
  }
  return {std::move(filter), limit};
}

// The newest first; how many there are in all stands in X-Total-Count.
HttpResponse answer_dead(PgConnection& connection, DeadFilter filter, std::size_t limit) {
  try {
    for (std::string* time : {&filter.since, &filter.until})
      if (!time->empty()) *time = time_of(connection, *time);
  } catch (const std::invalid_argument& error) {
    return error_response(400, std::string("since, until: ") + error.what());
  }
  const auto letters = read_dead(connection, filter, limit);
  json body = json::array();
  for (const DeadLetter& letter : letters) body.push_back(to_json(letter));
  const auto total = letters.size() < limit ? static_cast<std::int64_t>(letters.size())
                                            : count_dead(connection, filter);
  HttpResponse response = json_response(200, body);
  response.headers.emplace_back("X-Total-Count", std::to_string(total));
  return response;
}

// Those of other processes as they last wrote them; how many channels there are in all stands in
// X-Total-Count.
HttpResponse answer_channels(PgConnection& connection, sse::Server& server,
                             const ChannelQuery& query, std::int64_t own) {
  const auto elsewhere = count_elsewhere(connection, own, query.prefix);
  const ChannelList list =
      channel_list(server.subscribers().counts(query.prefix), elsewhere, query.limit);
  HttpResponse response = json_response(200, to_json(list));
  response.headers.emplace_back("X-Total-Count", std::to_string(list.total));
  return response;
}

void post_events(JobPool& pool, ResponseWaiter& waiter, HttpRequest request, Respond respond) {
  // Also keeps pages of other sites out: a form cannot send this type without being asked.
  if (request.content_type != "application/json")
    return respond(error_response(415, "send the event as Content-Type: application/json"));
  auto events = std::make_shared<json>(json::parse(request.body, nullptr, false));
  if (events->is_discarded()) return respond(error_response(400, "the body is not valid JSON"));
  std::optional<std::chrono::milliseconds> wait;
  try {
    check_events(*events);
    refuse_own_types(*events);
    wait = wait_of(request.query);
    if (wait && events->is_array()) throw BadEvent("wait takes one event, not an array");
  } catch (const BadEvent& error) {
    return respond(error_response(400, error.what()));
  }
  if (!wait) {
    with_database(pool, std::move(respond), [events](PgConnection& connection) {
      const auto ids = insert_events(connection, *events);
      return json_response(202, events->is_array() ? json{{"ids", ids}} : json{{"id", ids.at(0)}});
    });
    return;
  }
  // The answer is given by the waiter; an error of the insert is given at once.
  const auto last_word = std::make_shared<Respond>(std::move(respond));
  const auto passed_on = std::make_shared<bool>(false);
  with_database(
      pool,
      [last_word, passed_on](HttpResponse response) {
        if (!*passed_on) (*last_word)(std::move(response));
      },
      [events, wait, last_word, passed_on, &waiter](PgConnection& connection) {
        const std::int64_t id = insert_events(connection, *events).at(0);
        *passed_on = waiter.wait_for(id, *wait, [id, last_word](const json& outcome) {
          (*last_word)(outcome.is_null() ? json_response(202, {{"id", id}})
                                         : json_response(200, outcome));
        });
        return json_response(202, {{"id", id}});  // too many wait: it is enqueued all the same
      });
}

}  // namespace

HttpApi::HttpApi(PgTarget target, std::function<bool()> healthy,
                 std::function<std::int64_t()> worker_id)
    : pool_(target, connections, most_waiting),
      waiter_(std::move(target)),
      healthy_(std::move(healthy)),
      worker_id_(std::move(worker_id)) {}

void HttpApi::stop() {
  pool_.stop();
  waiter_.stop();
}

void HttpApi::add_routes(sse::Server& server) {
  server.route("GET", "/", Right::none, [](const HttpRequest&, const Respond& respond) {
    HttpResponse response{200, "text/html; charset=utf-8", std::string(page::files[0].text), {}};
    response.headers = {{"Cache-Control", "no-cache"}, {"X-Content-Type-Options", "nosniff"}};
    respond(std::move(response));
  });
  server.route("GET", "/healthz", Right::none, [](const HttpRequest&, const Respond& respond) {
    respond({200, "text/plain; charset=utf-8", "ok\n", {}});
  });
  server.route("GET", "/readyz", Right::none, [this](const HttpRequest&, const Respond& respond) {
    if (draining_)
      return respond({503, "text/plain; charset=utf-8", "not ready: about to end\n", {}});
    if (healthy_()) return respond({200, "text/plain; charset=utf-8", "ready\n", {}});
    respond({503,
             "text/plain; charset=utf-8",
             "not ready: the database is away or its schema is not this binary's\n",
             {}});
  });
  server.route("GET", "/api/status", Right::admin,
               [this, &server](const HttpRequest&, Respond respond) {
                 with_database(pool_, std::move(respond), [&server](PgConnection& connection) {
                   json body = to_json(read_status(connection));
                   body["streams"] = server.streams();
                   return json_response(200, body);
                 });
               });
  server.route(
      "GET", "/api/dead", Right::admin, [this](const HttpRequest& request, Respond respond) {
        try {
          auto [filter, limit] = dead_query(request.query);
          with_database(pool_, std::move(respond),
                        [filter = std::move(filter), limit = limit](PgConnection& connection) {
                          return answer_dead(connection, filter, limit);
                        });
        } catch (const std::invalid_argument& error) {
          respond(error_response(400, error.what()));
        }
      });
  server.route("GET", "/api/channels", Right::admin,
               [this, &server](const HttpRequest& request, Respond respond) {
                 try {
                   auto query = channel_query(request.query);
                   with_database(pool_, std::move(respond),
                                 [&server, query = std::move(query),
                                  own = worker_id_ ? worker_id_() : 0](PgConnection& connection) {
                                   return answer_channels(connection, server, query, own);
                                 });
                 } catch (const std::invalid_argument& error) {
                   respond(error_response(400, error.what()));
                 }
               });
  server.route("POST", "/events", Right::publish, [this](HttpRequest request, Respond respond) {
    post_events(pool_, waiter_, std::move(request), std::move(respond));
  });
}

}  // namespace spillway
