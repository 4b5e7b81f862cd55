// The `respond` a route's handler is given: may be called from any thread, once, also after the
// client, the session or the server has gone. If all copies are dropped without a call, the client
// is told so (500) instead of being left to wait.
#pragma once

#include <cstdint>
#include <memory>

#include "sse/mailbox.hpp"
#include "sse/server.hpp"

namespace spillway::sse {

class HttpSession;

[[nodiscard]] Respond make_responder(std::shared_ptr<Mailbox> mailbox,
                                     std::weak_ptr<HttpSession> session, std::uint64_t request);

}  // namespace spillway::sse
