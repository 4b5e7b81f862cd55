// Tokens. The input is a token as it stands; and a header and claims (two lines), signed as they
// should be, so that what lies behind the signature is reached too; and grants with what is asked.
#include "sse/token.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <string>
#include <variant>
#include <vector>

#include "sse/channel_pattern.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace spillway::sse;
using spillway::fuzz::insist;

namespace {

constexpr std::string_view kSecret = "0123456789abcdef0123456789abcdef";
const Seconds kNow{std::chrono::seconds(1'700'000'000)};

const std::vector<AuthKey>& keys() {
  static const std::vector<AuthKey> all{verification_key(kSecret)};
  return all;
}

std::string base64url(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(length));
  while (out.ends_with('=')) out.pop_back();
  for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return out;
}

std::string signed_by_hand(std::string_view header, std::string_view claims) {
  std::string token = base64url(header) + "." + base64url(claims);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), kSecret.data(), static_cast<int>(kSecret.size()),
       reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest, &size);
  return token + "." + base64url({reinterpret_cast<const char*>(digest), size});
}

void check(std::string_view token, bool may_be_taken) {
  const auto verified = verify_token(token, keys(), kNow);
  if (const auto* error = std::get_if<TokenError>(&verified)) {
    insist(!error->why.empty() && error->why.find('"') == std::string_view::npos, "a reason");
    return;
  }
  insist(may_be_taken, "only what was signed is taken");
  const Claims& claims = std::get<Claims>(verified);
  insist(claims.subject.size() <= kSubjectBytes, "a subject of allowed length");
  insist(!claims.expires || *claims.expires > kNow, "it has not expired");
  insist(!claims.not_before || *claims.not_before <= kNow, "its time has come");
  std::string again;
  try {
    again = sign_token(claims, signing_key(kSecret));
  } catch (const std::length_error&) {
    return;  // escapes make it longer than it came
  }
  const auto twice = verify_token(again, keys(), kNow);
  insist(std::holds_alternative<Claims>(twice) && std::get<Claims>(twice) == claims,
         "signed again it says the same");
}

void check_grant(std::string_view grant, std::string_view wanted) {
  const bool covered = covers(grant, wanted);
  const bool valid = problem_of_grant(grant).empty();
  // What is asked for has been checked by parse_address().
  if (!problem_of_grant(wanted).empty()) return;
  insist(valid || !covered, "a grant that is wrong allows nothing");
  if (valid && grant == wanted && grant != "*") insist(covered, "a grant allows itself");
  if (!covered || grant == "*") return;
  if (grant.ends_with(":*"))
    insist(wanted.starts_with(grant.substr(0, grant.size() - 1)), "a pattern is its prefix");
  else
    insist(grant == wanted, "nothing else grants");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest = spillway::fuzz::text_of(data, size);
  check(rest, false);
  const std::string_view first = spillway::fuzz::take_line(rest);
  check(signed_by_hand(first, rest), first.find("HS256") != std::string_view::npos ||
                                         first.find('\\') != std::string_view::npos);
  check(signed_by_hand(R"({"alg":"HS256","typ":"JWT"})", rest), true);
  check_grant(first, rest);
  return 0;
}
