#include "sse/responder.hpp"

#include <atomic>
#include <utility>

#include "sse/http_session.hpp"
#include "sse/http_text.hpp"

namespace spillway::sse {
namespace {

class Responder {
 public:
  Responder(std::shared_ptr<Mailbox> mailbox, std::weak_ptr<HttpSession> session,
            std::uint64_t request)
      : mailbox_(std::move(mailbox)), session_(std::move(session)), request_(request) {}

  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;

  ~Responder() {
    try {
      answer(error_response(500, "the request was not answered"));
    } catch (...) {
      // Out of memory: the connection ends at the server's stop at the latest.
    }
  }

  void answer(HttpResponse response) {
    if (answered_.exchange(true)) return;
    mailbox_->post([session = session_, request = request_, response = std::move(response)] {
      if (const auto alive = session.lock()) alive->answer(request, response);
    });
  }

 private:
  const std::shared_ptr<Mailbox> mailbox_;
  const std::weak_ptr<HttpSession> session_;
  const std::uint64_t request_;
  std::atomic<bool> answered_{false};
};

}  // namespace

Respond make_responder(std::shared_ptr<Mailbox> mailbox, std::weak_ptr<HttpSession> session,
                       std::uint64_t request) {
  auto responder = std::make_shared<Responder>(std::move(mailbox), std::move(session), request);
  return [responder](HttpResponse response) { responder->answer(std::move(response)); };
}

}  // namespace spillway::sse
