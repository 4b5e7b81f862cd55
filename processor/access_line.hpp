// A record of the access log as a line of the log. Pure.
#pragma once

#include "processor/log_line.hpp"
#include "sse/access_record.hpp"

namespace spillway {

[[nodiscard]] LogLine line_of(const sse::AccessRecord& record);

}  // namespace spillway
