#include "processor/http_api.hpp"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "processor/embedded_file.hpp"
#include "processor/enqueue.hpp"
#include "processor/retry_policy.hpp"
#include "processor/status.hpp"

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

void post_events(JobPool& pool, HttpRequest request, Respond respond) {
  // Also keeps pages of other sites out: a form cannot send this type without being asked.
  if (request.content_type != "application/json")
    return respond(error_response(415, "send the event as Content-Type: application/json"));
  auto events = std::make_shared<json>(json::parse(request.body, nullptr, false));
  if (events->is_discarded()) return respond(error_response(400, "the body is not valid JSON"));
  try {
    check_events(*events);
  } catch (const BadEvent& error) {
    return respond(error_response(400, error.what()));
  }
  with_database(pool, std::move(respond), [events](PgConnection& connection) {
    const auto ids = insert_events(connection, *events);
    return json_response(202, events->is_array() ? json{{"ids", ids}} : json{{"id", ids.at(0)}});
  });
}

}  // namespace

HttpApi::HttpApi(PgTarget target, std::function<bool()> healthy)
    : pool_(std::move(target), connections, most_waiting), healthy_(std::move(healthy)) {}

void HttpApi::add_routes(sse::Server& server) {
  server.route("GET", "/", [](const HttpRequest&, const Respond& respond) {
    HttpResponse response{200, "text/html; charset=utf-8", std::string(page::files[0].text), {}};
    response.headers = {{"Cache-Control", "no-cache"}, {"X-Content-Type-Options", "nosniff"}};
    respond(std::move(response));
  });
  server.route("GET", "/healthz", [](const HttpRequest&, const Respond& respond) {
    respond({200, "text/plain; charset=utf-8", "ok\n", {}});
  });
  server.route("GET", "/readyz", [this](const HttpRequest&, const Respond& respond) {
    if (healthy_()) return respond({200, "text/plain; charset=utf-8", "ready\n", {}});
    respond({503,
             "text/plain; charset=utf-8",
             "not ready: the database is away or its schema is not this binary's\n",
             {}});
  });
  server.route("GET", "/api/status", [this, &server](const HttpRequest&, Respond respond) {
    with_database(pool_, std::move(respond), [&server](PgConnection& connection) {
      json body = to_json(read_status(connection));
      body["streams"] = server.streams();
      return json_response(200, body);
    });
  });
  server.route("POST", "/events", [this](HttpRequest request, Respond respond) {
    post_events(pool_, std::move(request), std::move(respond));
  });
}

}  // namespace spillway
