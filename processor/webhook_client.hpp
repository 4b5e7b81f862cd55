// Sends webhooks: one thread, any number of requests in flight, each on a connection of its own.
// Certificates are checked against the system's authorities (SSL_CERT_FILE names others), redirects
// are not followed, and connections go to the very address that the policy has judged.
//
// send() is thread-safe. stop() blocks, may be called twice, and cuts off what is in flight. A
// request's trouble is part of its answer; only the constructor throws.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "processor/address_policy.hpp"
#include "processor/webhook_decision.hpp"

namespace spillway {

struct WebhookClientOptions {
  AddressPolicy policy;
  std::chrono::milliseconds connect_timeout{5'000};  // until connected, name and TLS included
  std::chrono::milliseconds timeout{30'000};         // in all
};

struct WebhookRequest {
  std::string url;
  std::string body;  // JSON
  std::vector<std::pair<std::string, std::string>> headers;
};

class WebhookClient {
 public:
  // Called on the client's thread; must not block or throw. Not called for what stop() cuts off.
  using Done = std::function<void(WebhookAnswer)>;

  explicit WebhookClient(WebhookClientOptions options);
  ~WebhookClient();
  WebhookClient(const WebhookClient&) = delete;
  WebhookClient& operator=(const WebhookClient&) = delete;

  void send(WebhookRequest request, Done done);
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway
