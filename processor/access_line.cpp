#include "processor/access_line.hpp"

namespace spillway {

LogLine line_of(const sse::AccessRecord& record) {
  LogFields fields{
      {"client", record.client}, {"method", record.method},
      {"target", record.target}, {"status", record.status},
      {"bytes", record.bytes},   {"seconds", static_cast<double>(record.duration.count()) / 1e6}};
  if (record.frames > 0) fields["frames"] = record.frames;
  if (!record.end.empty()) fields["end"] = record.end;
  if (!record.subject.empty()) fields["subject"] = record.subject;
  return {LogLevel::info, "access", std::move(fields)};
}

}  // namespace spillway
