// Last-Event-ID and last_event_id, and what a stream decides from them. The input's first line is
// the header, its second the query's value.
#include <string>
#include <variant>

#include "sse/event_id.hpp"
#include "sse/resume.hpp"
#include "sse/utf8.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace spillway::sse;
using spillway::fuzz::insist;

namespace {

void check_id(std::string_view text) {
  const auto id = parse_event_id(text);
  if (!id) return;
  insist(valid_epoch(id->epoch), "the epoch of an id is valid");
  std::string again;
  append_event_id(again, id->epoch, id->position);
  insist(again == text && again.size() <= kEventIdBytes, "there is one way to write an id");
}

void check_decisions(const ResumePoint& from) {
  const MemoryWindow memory{"e", 100, 200};
  const auto start = resume_at_start(from, memory);
  if (const auto* live = std::get_if<GoLive>(&start)) {
    insist(live->after >= memory.base && live->after <= memory.head, "memory gives what it has");
  } else {
    ReplayPage page;
    page.head = {"e", 200, 0};
    page.floor = 50;
    page.upto = 200;
    const auto first = resume_on_first_page(from, page, memory);
    if (const auto* send = std::get_if<SendPage>(&first))
      insist(send->after >= page.floor && send->after <= memory.head, "a page continues the id");
    if (std::holds_alternative<Reset>(first)) {
      std::string out;
      append_reset(out, "e", std::get<Reset>(first).reason, from.requested, 50, 200);
      insist(valid_utf8(out) && out.ends_with("\n\n"), "a reset can be sent");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest = spillway::fuzz::text_of(data, size);
  const std::string_view header = spillway::fuzz::take_line(rest);
  check_id(header);
  check_id(rest);
  const ResumePoint one = choose_resume_point(header, "", "e", 200);
  insist(one == parse_resume_point(header), "alone, the header counts");
  insist(choose_resume_point("", rest, "e", 200) == parse_resume_point(rest),
         "alone, the query counts");
  const ResumePoint both = choose_resume_point(header, rest, "e", 200);
  insist(both == parse_resume_point(header) || both == parse_resume_point(rest),
         "it is one of them");
  for (const ResumePoint& point : {one, both}) check_decisions(point);
  return 0;
}
