#include "processor/try_event.hpp"

#include <exception>
#include <iterator>
#include <utility>
#include <vector>

#include "processor/handlers_of_type.hpp"

namespace spillway {
namespace {

Result failed(std::string why) {
  Result result;
  result.error = std::move(why);
  return result;
}

}  // namespace

HandlersOf handlers_of(const Registry& registry, const Event& event) {
  HandlersOf answer;
  for (const Registration* registration : handlers_of_type(registry, event.type)) {
    answer.any = true;
    answer.read = answer.read || !registration->reads.empty();
  }
  return answer;
}

Result try_event(const Registry& registry, const Event& event, DeclaredReads* reads) {
  Result all;
  for (const Registration* registration : handlers_of_type(registry, event.type)) {
    Event seen = event;
    if (registration->reads.empty())
      seen.data = json::array();
    else if (reads != nullptr)
      seen.data = reads->read(registration->reads, {&event}).at(0);
    try {
      Result one = registration->handler(seen);
      if (one.error) return failed(std::move(*one.error));
      std::move(one.effects.begin(), one.effects.end(), std::back_inserter(all.effects));
      if (one.response) all.response = std::move(one.response);
    } catch (const std::exception& error) {
      return failed(error.what());
    } catch (...) {
      return failed("the handler threw something that is not a std::exception");
    }
  }
  return all;
}

}  // namespace spillway
