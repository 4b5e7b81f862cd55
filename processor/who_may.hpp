// Who may, as `run` is told: reads the key files, checks the options against each other, and says
// what to write where they do not fit. One thread. Errors: ConfigurationError.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "processor/worker.hpp"
#include "sse/access_options.hpp"
#include "sse/auth_key.hpp"

namespace spillway {

// The keys of these files; none for no files.
[[nodiscard]] std::vector<sse::AuthKey> read_auth_keys(const std::vector<std::string>& files);

// Null without --auth-key.
[[nodiscard]] std::shared_ptr<sse::KeyRing> make_key_ring(const WorkerOptions& options);

// Refuses what would be open to strangers by accident.
void check_exposure(const WorkerOptions& options);

[[nodiscard]] sse::AccessOptions access_options(const WorkerOptions& options,
                                                std::shared_ptr<const sse::KeyRing> keys);

}  // namespace spillway
