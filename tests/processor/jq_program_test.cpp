#include "processor/jq_program.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "effects/effect_error.hpp"
#include "processor/handler_error.hpp"

namespace spillway {
namespace {

Event comment() {
  Event event;
  event.id = 7;
  event.type = "CommentAdded";
  event.stream = "item:42";
  event.payload = {{"item_id", "42"}, {"n", 3}};
  event.context = {{"item_owner_id", "1"}};
  event.correlation_id = "c0ffee00-0000-0000-0000-000000000000";
  event.created_at = "2026-01-31T12:00:00Z";
  event.data = {{{"title", "The answer"}}};
  return event;
}

Result run(const std::string& source, const Event& event = comment()) {
  return JqProgram("handlers/Type.jq", source).run(event);
}

// What the program answers, through its response.
json value_of(const std::string& expression, const Event& event = comment()) {
  return run("{response: (" + expression + ")}", event).response.value();
}

std::string compile_error(const std::string& source) {
  try {
    JqProgram program("handlers/Type.jq", source);
  } catch (const HandlerError& error) {
    return error.what();
  }
  return "no error";
}

std::string effect_error(const std::string& source) {
  try {
    static_cast<void>(run(source));
  } catch (const EffectError& error) {
    return error.what();
  }
  return "no EffectError";
}

std::string run_error(const std::string& source) {
  try {
    static_cast<void>(run(source));
  } catch (const EffectError&) {
    return "an EffectError";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

TEST(JqProgram, GivesAListOfEffects) {
  const Result result = run(R"([{Insert: {table: "t", data: .payload}},
      {SSEBroadcast: {channel: ("C:" + .payload.item_id), event_type: .type, data: .data[0].title}}])");
  EXPECT_EQ(result.effects, (Effects{Insert{"t", {{"item_id", "42"}, {"n", 3}}},
                                     SSEBroadcast{"C:42", "CommentAdded", "The answer"}}));
  EXPECT_FALSE(result.response);
  EXPECT_FALSE(result.error);
}

TEST(JqProgram, GivesEffectsAndAResponseOrAnError) {
  const Result both = run(R"({effects: [{KVDelete: {key: "k"}}], response: {ok: true}})");
  EXPECT_EQ(both.effects, (Effects{KVDelete{"k"}}));
  EXPECT_EQ(both.response, (json{{"ok", true}}));
  EXPECT_EQ(run(R"({error: "no such item"})").error, "no such item");
  EXPECT_TRUE(run("[]").effects.empty());
  EXPECT_TRUE(run("{}").effects.empty());
  EXPECT_EQ(run("{response: null}").response, json(nullptr));
}

TEST(JqProgram, SeesTheWholeEvent) {
  EXPECT_EQ(value_of("."), json::parse(R"({"id":7,"type":"CommentAdded","stream":"item:42",
      "payload":{"item_id":"42","n":3},"context":{"item_owner_id":"1"},
      "correlation_id":"c0ffee00-0000-0000-0000-000000000000","causation_id":null,"attempt":1,
      "created_at":"2026-01-31T12:00:00Z","data":[{"title":"The answer"}]})"));
}

TEST(JqProgram, WholeNumbersStayWholeAndBeyondTwoToThe53rdAreRounded) {
  EXPECT_EQ(value_of("[40.0, 0.5, -3, 9007199254740992, 1e18, 1e19]").dump(),
            "[40,0.5,-3,9007199254740992,1000000000000000000,1e+19]");
  EXPECT_EQ(value_of("[nan, infinite]").dump(), "[null,1.7976931348623157e+308]");
  Event event = comment();
  event.payload = {{"n", 9007199254740993}};
  EXPECT_EQ(value_of(".payload.n", event).dump(), "9007199254740992");
}

TEST(JqProgram, TextKeepsNulAndEveryCharacter) {
  Event event = comment();
  event.payload = {{"text", std::string("a\0\"\\\n\xc3\xa9\xf0\x9f\x98\x80", 12)}};
  EXPECT_EQ(value_of(".payload", event), event.payload);
}

TEST(JqProgram, ErrorsOfTheProgramNameFileAndLine) {
  EXPECT_EQ(compile_error("[]\n| ]"),
            "--handlers handlers/Type.jq: line 2: syntax error, unexpected character");
  EXPECT_EQ(compile_error("# nothing yet\n\n| foo(1)\n"),
            "--handlers handlers/Type.jq: line 3: syntax error, unexpected '|'");
  EXPECT_EQ(compile_error("[]\n|\n| foo"),
            "--handlers handlers/Type.jq: line 3: syntax error, unexpected '|'");
  EXPECT_EQ(compile_error(".a\n| bar(1)"),
            "--handlers handlers/Type.jq: line 2: bar/1 is not defined");
  EXPECT_EQ(compile_error("$nobody"),
            "--handlers handlers/Type.jq: line 1: $nobody is not defined");
  EXPECT_EQ(compile_error(""),
            "--handlers handlers/Type.jq: line 1: syntax error, unexpected end of the program");
  EXPECT_EQ(compile_error(std::string("[]\0[]", 5)),
            "--handlers handlers/Type.jq: is not a jq program: it holds a NUL byte");
}

TEST(JqProgram, ThereAreNoModulesNoInputsAndNoEnvironment) {
  EXPECT_EQ(compile_error(R"(import "m" as m; [])"),
            "--handlers handlers/Type.jq: line 1: syntax error, unexpected import");
  EXPECT_EQ(value_of("[$ENV, env, env.PATH, $ENV.PATH]"), json::parse("[{},{},null,null]"));
  EXPECT_EQ(value_of("[inputs]"), json::array());
  EXPECT_EQ(run_error("input"), "Type.jq: break");
}

TEST(JqProgram, FailingAtRunIsAnErrorThatNamesTheFile) {
  EXPECT_EQ(run_error(R"(error("no \(.type) today"))"), "Type.jq: no CommentAdded today");
  EXPECT_EQ(run_error("error({code: 3})"), R"(Type.jq: {"code":3})");
  EXPECT_EQ(run_error(".payload.item_id.x"), R"(Type.jq: Cannot index string with string "x")");
  EXPECT_EQ(run_error("[], error(\"late\")"), "Type.jq: late");
  EXPECT_EQ(run_error("halt"), "Type.jq: the program called halt");
  EXPECT_EQ(run_error(R"("x" | halt_error)"), "Type.jq: the program called halt");
}

TEST(JqProgram, NonsenseIsAnErrorThatNoRetryMends) {
  EXPECT_EQ(effect_error("empty"), "Type.jq: the program gave no result; write [] for no effects");
  EXPECT_EQ(effect_error("[], []"),
            "Type.jq: the program gave more than one result; put the effects into one list");
  EXPECT_EQ(effect_error("repeat([])"),
            "Type.jq: the program gave more than one result; put the effects into one list");
  EXPECT_EQ(
      effect_error("3"),
      R"(the result must be a list of effects, {"effects":[…],"response":…} or {"error":"why"})"
      ", not a number");
  EXPECT_EQ(
      effect_error("null"),
      R"(the result must be a list of effects, {"effects":[…],"response":…} or {"error":"why"})"
      ", not null");
  EXPECT_EQ(effect_error("{effect: []}"),
            "the result's key \"effect\" is unknown; there is effects, response, error");
  EXPECT_EQ(effect_error("{error: []}"), "the result's \"error\" must be a string, not an array");
  EXPECT_EQ(effect_error("{error: \"x\", effects: []}"),
            "a result with \"error\" applies nothing, so it must have no other key");
  EXPECT_EQ(effect_error("{effects: 1}"), "effects must be an array of effects, not a number");
  EXPECT_EQ(effect_error("[{Insrt: {}}]"),
            "effect 0: unknown kind \"Insrt\"; there is Insert, Upsert, Update, Delete, "
            "SSEBroadcast, ScheduleEvent, TriggerWebhook, KVSet, KVDelete, Log");
  EXPECT_EQ(effect_error("[{KVDelete: {key: \"k\"}}, {Insert: {table: 3, data: {}}}]"),
            "effect 1 (Insert), field \"table\": must be a string, not a number");
  EXPECT_EQ(effect_error("{response: (reduce range(1100) as $i (null; [.]))}"),
            "a value is nested more than 1000 levels deep");
}

TEST(JqProgram, DeepPayloadsFailTheEventOnly) {
  Event event = comment();
  json deep = 1;
  for (int i = 0; i < 900; ++i) deep = json::array({std::move(deep)});
  event.payload = {{"deep", deep}};
  EXPECT_EQ(value_of(".payload", event), event.payload);
  for (int i = 0; i < 200; ++i) deep = json::array({std::move(deep)});
  event.payload = {{"deep", deep}};
  EXPECT_THROW(static_cast<void>(run("[]", event)), EffectError);
}

TEST(JqProgram, AFailureLeavesNothingBehindForTheNextEvent) {
  const JqProgram program("Type.jq", R"(if .payload.n == 3 then error("three")
      elif .payload.n == 4 then halt else {response: .payload.n} end)");
  Event event = comment();
  for (const int n : {3, 5, 4, 6, 3, 7}) {
    event.payload = {{"n", n}};
    if (n <= 4)
      EXPECT_THROW(static_cast<void>(program.run(event)), std::runtime_error);
    else
      EXPECT_EQ(program.run(event).response, json(n));
  }
}

TEST(JqProgram, RunsOnSeveralThreadsAtOnce) {
  const JqProgram program("Type.jq", "{response: [.payload.n, (.payload.text | ascii_upcase)]}");
  std::atomic<int> wrong{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i) {
        Event event = comment();
        event.payload = {{"n", t * 1000 + i}, {"text", "t" + std::to_string(i)}};
        if (program.run(event).response != json{t * 1000 + i, "T" + std::to_string(i)}) ++wrong;
      }
    });
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace spillway
