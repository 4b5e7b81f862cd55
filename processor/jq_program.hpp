// A handler written in jq: one source file, compiled once per thread that runs it at the same time.
//
// Thread-safe: libjq's states are not, so each call takes one of a pool, or compiles another. The
// program sees its input and nothing else: no further inputs, no modules, an empty environment.
// jq's numbers are doubles: an integer beyond 2^53 loses its last digits on the way through.
// Errors: HandlerError from the constructor; from run() EffectError when the result is no list of
// effects, std::runtime_error when the program fails, both naming the file.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "spillway/registry.hpp"

struct jq_state;

namespace spillway {

class JqProgram {
 public:
  // `path` is for errors only; `source` is the program.
  JqProgram(std::string path, std::string source);
  ~JqProgram();
  JqProgram(const JqProgram&) = delete;
  JqProgram& operator=(const JqProgram&) = delete;

  // The program's one result, for the event as handlers in JSON see it, `data` included.
  [[nodiscard]] Result run(const Event& event) const;

 private:
  struct Close {
    void operator()(jq_state* state) const;
  };
  using State = std::unique_ptr<jq_state, Close>;
  class Lease;

  [[nodiscard]] State compile() const;
  [[nodiscard]] json result_of(jq_state* state, const Event& event) const;

  std::string path_;
  std::string name_;  // the file's name alone
  std::string source_;
  mutable std::mutex mutex_;
  mutable std::vector<State> free_;  // at most as many as threads have run it at once
};

}  // namespace spillway
