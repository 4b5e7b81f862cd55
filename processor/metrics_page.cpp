#include "processor/metrics_page.hpp"

#include <string>
#include <utility>

namespace spillway {
namespace {

constexpr std::size_t most_waiting = 16;

sse::HttpResponse unavailable(const char* why) {
  return {503, "text/plain; charset=utf-8", std::string(why) + "\n", {{"Retry-After", "1"}}};
}

PgTarget limited(PgTarget target, std::chrono::milliseconds longest) {
  target.limits.statement = longest;
  return target;
}

}  // namespace

class MetricsPage::Job {
 public:
  explicit Job(std::shared_ptr<Reading> reading) : reading_(std::move(reading)) {}
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  ~Job() {
    const std::scoped_lock lock(reading_->mutex);
    reading_->under_way = false;
    reading_->changed.notify_all();
  }

  void run(PgConnection* connection) {
    if (connection == nullptr) return;
    // First something that costs nothing: counting a long queue may take its time.
    connection->exec("SELECT 1");
    up(true);
    try {
      QueueReading queue = read_queue(*connection);
      const std::scoped_lock lock(reading_->mutex);
      reading_->last = queue;
      reading_->taken = Clock::now();
      reading_->taken_at = std::chrono::system_clock::now();
    } catch (const SqlError& error) {
      if (is_outage(error.sqlstate())) up(false);
      throw;
    }
  }

 private:
  void up(bool is) {
    const std::scoped_lock lock(reading_->mutex);
    reading_->up = is;
  }

  std::shared_ptr<Reading> reading_;
};

MetricsPage::MetricsPage(MetricsPageOptions options)
    : options_(std::move(options)), pool_(limited(options_.target, options_.longest_read), 1, 1) {}

MetricsPage::~MetricsPage() {
  stop();
}

void MetricsPage::add_route(sse::Server& server) {
  server.route("GET", "/metrics", sse::Right::admin,
               [this](const sse::HttpRequest&, sse::Respond respond) {
                 {
                   const std::scoped_lock lock(mutex_);
                   if (running_ && waiting_.size() < most_waiting) {
                     waiting_.push_back(std::move(respond));
                     respond = nullptr;
                   }
                 }
                 if (respond) return respond(unavailable("not now; try again"));
                 changed_.notify_one();
               });
}

void MetricsPage::start(Collect collect) {
  collect_ = std::move(collect);
  {
    const std::scoped_lock lock(mutex_);
    running_ = true;
  }
  thread_ = std::jthread([this] { run(); });
}

void MetricsPage::stop() {
  {
    const std::scoped_lock lock(mutex_);
    running_ = false;
  }
  {
    const std::scoped_lock lock(reading_->mutex);
    stopping_ = true;
  }
  changed_.notify_all();
  reading_->changed.notify_all();
  if (thread_.joinable()) thread_.join();
  pool_.stop();
}

void MetricsPage::run() {
  for (;;) {
    std::vector<sse::Respond> asked;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !running_ || !waiting_.empty(); });
      asked.swap(waiting_);
      if (!running_) {
        lock.unlock();
        for (const auto& respond : asked) respond(unavailable("shutting down"));
        return;
      }
    }
    sse::HttpResponse response;
    try {
      response = {200, "text/plain; version=0.0.4; charset=utf-8", page(), {}};
    } catch (const std::exception&) {  // out of memory
      response = unavailable("not now; try again");
    }
    for (const auto& respond : asked) respond(response);
  }
}

std::string MetricsPage::page() {
  read();
  MetricFamilies families;
  collect_(families);
  add_database_metrics(families);
  return families.text();
}

void MetricsPage::read() {
  std::unique_lock lock(reading_->mutex);
  if (!reading_->under_way) {
    const auto now = Clock::now();
    if (reading_->begun != Clock::time_point{} && now - reading_->begun < options_.read_interval)
      return;
    reading_->begun = now;
    reading_->under_way = true;
    reading_->up = false;  // until it has answered
    lock.unlock();
    auto job = std::make_shared<Job>(reading_);
    static_cast<void>(
        pool_.post([job = std::move(job)](PgConnection* connection) { job->run(connection); }));
    lock.lock();
  }
  reading_->changed.wait_for(lock, options_.patience,
                             [this] { return stopping_ || !reading_->under_way; });
}

void MetricsPage::add_database_metrics(MetricFamilies& families) {
  std::optional<QueueReading> shown;
  {
    const std::scoped_lock lock(reading_->mutex);
    families.gauge("spillway_database_up",
                   "1 if the database answered when it was last read for a scrape.",
                   reading_->up ? 1 : 0);
    if (!reading_->last || Clock::now() - reading_->taken > options_.oldest) return;
    families.gauge("spillway_database_read_timestamp_seconds",
                   "When the numbers of the database were read, in seconds since 1970.",
                   std::chrono::duration<double>(reading_->taken_at.time_since_epoch()).count());
    shown = reading_->last;
  }
  add_queue_metrics(*shown, families);
}

}  // namespace spillway
