// Gives the schedules of spillway.schedules their ticks. What a tick is, and that each makes one
// event however many workers there are, is SQL's business: migrations/0013_schedules.sql.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "processor/maintenance.hpp"

namespace spillway {

// One task, which wants to run again the moment the next schedule is due, and looks once a second
// for schedules that have been added or moved. A schedule that fails is written to `log` once.
[[nodiscard]] std::vector<MaintenanceTask> schedule_upkeep(
    std::function<void(const std::string&)> log);

}  // namespace spillway
