// A small HTTP server for tests, which answers as it is told and remembers what it was sent. Own
// threads; everything here is thread-safe. On 127.0.0.1, any free port; with a certificate, TLS.
#pragma once

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace spillway::test {

class HttpTarget {
 public:
  struct Request {
    std::string head;  // request line and headers
    std::string body;
    [[nodiscard]] std::string line() const;
    [[nodiscard]] std::string header(const std::string& name) const;  // as spelt; "" when absent
  };
  // PEM files.
  struct Identity {
    std::filesystem::path certificate;
    std::filesystem::path key;
  };

  HttpTarget() : HttpTarget(Identity()) {}
  explicit HttpTarget(Identity identity);
  ~HttpTarget();
  HttpTarget(const HttpTarget&) = delete;
  HttpTarget& operator=(const HttpTarget&) = delete;

  [[nodiscard]] int port() const { return port_; }
  // "http://127.0.0.1:PORT/hook", or of another host.
  [[nodiscard]] std::string url(const std::string& host = "127.0.0.1") const;

  // What the next requests get, in this order; 200 without a body behind that.
  void answer(int status, const std::string& headers = "", const std::string& body = "");
  void answer_raw(const std::string& text);
  void hang();         // no answer until release()
  void hang_always();  // the same for every request from now on
  void close();        // no answer, and the end of the connection
  void release();      // those that hang get their 200

  [[nodiscard]] std::vector<Request> requests() const;
  [[nodiscard]] std::size_t count() const { return requests().size(); }

 private:
  struct Step {
    enum class Kind { answer, hang, close } kind;
    std::string text;
  };
  struct Channel;

  void accept_all();
  void serve(int fd);
  void answer_one(Channel& channel);

  Identity identity_;
  int listening_ = -1;
  int port_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Step> steps_;
  std::vector<Request> requests_;
  std::set<int> open_;
  bool always_hang_ = false;
  int releases_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> connections_;
  std::thread thread_;
};

// A key and a certificate signed by itself, for these names ("DNS:localhost,IP:127.0.0.1").
HttpTarget::Identity self_signed(const std::string& names);

}  // namespace spillway::test
