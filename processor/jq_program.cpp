#include "processor/jq_program.hpp"

extern "C" {
#include <jq.h>
}

#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

#include "effects/effect_error.hpp"
#include "processor/handler_error.hpp"
#include "processor/jq_value.hpp"
#include "processor/result_json.hpp"

namespace spillway {
namespace {

// In front of the program, on its first line, so that line numbers stay right. It hides the
// process's environment, where the database's password may be, and leaves no place for `import`.
constexpr std::string_view prefix = "{} as $ENV | def env: {}; ";

std::string string_of(jv value) {  // consumes it
  const Jv owned(value);
  return {jv_string_value(owned.get()),
          static_cast<std::size_t>(jv_string_length_bytes(owned.copy()))};
}

// Each error is reported, and then their number.
void keep_message(void* messages, jv message) {
  static_cast<std::vector<std::string>*>(messages)->push_back(string_of(jq_format_error(message)));
}

// "jq: error: syntax error, unexpected ']' (Unix shell quoting issues?) at <top-level>, line 3:
// text" becomes "line 3: syntax error, unexpected ']'".
std::optional<std::string> tidy(std::string_view message) {
  constexpr std::string_view before = "jq: error: ";
  constexpr std::string_view place = " at <top-level>, line ";
  constexpr std::string_view shell = " (Unix shell quoting issues?)";
  const auto at = message.find(place);
  if (!message.starts_with(before) || at == std::string_view::npos) return std::nullopt;
  const auto number = at + place.size();
  std::string what(message.substr(before.size(), at - before.size()));
  if (const auto noise = what.find(shell); noise != std::string::npos)
    what.erase(noise, shell.size());
  if (const auto end = what.find("$end"); end != std::string::npos)
    what.replace(end, 4, "end of the program");
  if (const auto token = what.find("INVALID_CHARACTER"); token != std::string::npos)
    what.replace(token, 17, "character");
  return "line " + std::string(message.substr(number, message.find(':', number) - number)) + ": " +
         what;
}

// The same members as to_json(Event) and `data`, but payload and rows are not copied on the way.
Jv input_of(const Event& event) {
  Jv input(jv_object());
  const auto set = [&input](const char* name, Jv value) {
    jv key = jv_string(name);
    input.reset(jv_object_set(input.release(), key, value.release()));
  };
  set("id", to_jv(event.id));
  set("type", to_jv(event.type));
  set("stream", event.stream ? to_jv(*event.stream) : Jv(jv_null()));
  set("payload", to_jv(event.payload));
  set("context", to_jv(event.context));
  set("correlation_id", to_jv(event.correlation_id));
  set("causation_id", event.causation_id ? to_jv(*event.causation_id) : Jv(jv_null()));
  set("attempt", to_jv(event.attempt));
  set("created_at", to_jv(event.created_at));
  set("data", to_jv(event.data.is_null() ? json::array() : event.data));
  return input;
}

// What `error` was given, as a sentence.
std::string describe(const Jv& message) {
  if (message.kind() == JV_KIND_STRING) return string_of(message.copy());
  return string_of(jv_dump_string(message.copy(), 0));
}

}  // namespace

// A state for one call; back in the pool whatever happens.
class JqProgram::Lease {
 public:
  explicit Lease(const JqProgram& program) : program_(program) {
    {
      const std::scoped_lock lock(program_.mutex_);
      if (!program_.free_.empty()) {
        state_ = std::move(program_.free_.back());
        program_.free_.pop_back();
      }
    }
    if (!state_) state_ = program_.compile();
  }
  ~Lease() {
    const std::scoped_lock lock(program_.mutex_);
    program_.free_.push_back(std::move(state_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  [[nodiscard]] jq_state* state() const { return state_.get(); }

 private:
  const JqProgram& program_;
  State state_;
};

void JqProgram::Close::operator()(jq_state* state) const {
  jq_teardown(&state);
}

JqProgram::JqProgram(std::string path, std::string source)
    : path_(std::move(path)),
      name_(std::filesystem::path(path_).filename().string()),
      source_(std::string(prefix) + std::move(source)) {
  if (source_.find('\0') != std::string::npos)
    throw HandlerError("--handlers " + path_ + ": is not a jq program: it holds a NUL byte");
  free_.push_back(compile());
}

JqProgram::~JqProgram() = default;

JqProgram::State JqProgram::compile() const {
  State state(jq_init());
  if (!state) throw HandlerError("--handlers " + path_ + ": libjq has no memory left");
  // Without this attribute libjq ends the process at the first look for a module.
  jq_set_attr(state.get(), jv_string("JQ_LIBRARY_PATH"), jv_array());
  // jq_init leaves these as they were in memory.
  jq_set_input_cb(state.get(), nullptr, nullptr);
  jq_set_debug_cb(state.get(), nullptr, nullptr);
  std::vector<std::string> messages;
  jq_set_error_cb(state.get(), keep_message, &messages);
  const bool compiled = jq_compile(state.get(), source_.c_str()) != 0;
  jq_set_error_cb(state.get(), nullptr, nullptr);
  if (compiled) return state;
  std::string text;
  for (const std::string& message : messages)
    if (const auto tidied = tidy(message)) text += (text.empty() ? "" : "; ") + *tidied;
  if (text.empty() && !messages.empty()) text = messages.front();
  throw HandlerError("--handlers " + path_ + ": " + text);
}

json JqProgram::result_of(jq_state* state, const Event& event) const {
  jq_start(state, input_of(event).release(), 0);
  const Jv first(jq_next(state));
  if (jv_is_valid(first.get()) == 0) {
    if (jq_halted(state) != 0) throw std::runtime_error(name_ + ": the program called halt");
    if (jv_invalid_has_msg(first.copy()) == 0)
      throw EffectError(name_ + ": the program gave no result; write [] for no effects");
    throw std::runtime_error(name_ + ": " + describe(Jv(jv_invalid_get_msg(first.copy()))));
  }
  const Jv second(jq_next(state));
  if (jv_is_valid(second.get()) != 0)
    throw EffectError(name_ +
                      ": the program gave more than one result; put the effects into one list");
  if (jq_halted(state) != 0) throw std::runtime_error(name_ + ": the program called halt");
  if (jv_invalid_has_msg(second.copy()) != 0)
    throw std::runtime_error(name_ + ": " + describe(Jv(jv_invalid_get_msg(second.copy()))));
  return from_jv(first);
}

Result JqProgram::run(const Event& event) const {
  json value;
  {
    const Lease lease(*this);
    value = result_of(lease.state(), event);
  }
  return result_from_json(std::move(value));
}

}  // namespace spillway
