// Proves, from the database and from what writers and subscribers wrote down, that nothing was
// lost, doubled or reordered. Once everything has come to rest; one thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/support/database.hpp"
#include "tests/support/subscriber.hpp"
#include "tests/torture/writer.hpp"

namespace spillway::torture {

// A subscriber, and what it subscribes to as a condition on spillway.broadcasts.
struct Audience {
  std::string name;
  std::string condition;
  bool earliest = false;
  std::unique_ptr<test::Subscriber> subscriber;
};

struct Findings {
  std::vector<std::string> faults;  // empty: all is well
  long long events = 0;
  long long rows = 0;
  long long retries = 0;
  long long dead = 0;
  long long frames = 0;     // durable
  long long ephemeral = 0;  // frames of them
  long long positions = 0;
};

// How many frames a subscriber must have seen.
std::vector<test::Seen> wanted(test::Database& database, const Audience& audience);

Findings check(test::Database& database, const std::vector<std::unique_ptr<Writer>>& writers,
               const std::vector<Audience>& audiences);

// Spoils what check() has found good, in ways that it must notice, and takes that back. Returns
// what went unnoticed. The database must not be in use any more.
std::vector<std::string> unnoticed(test::Database& database);

}  // namespace spillway::torture
