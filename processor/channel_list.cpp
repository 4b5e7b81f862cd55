#include "processor/channel_list.hpp"

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "sse/address.hpp"
#include "sse/channel_name.hpp"

namespace spillway {
namespace {

constexpr std::size_t kMost = 1000;

}  // namespace

ChannelQuery channel_query(const std::string& query) {
  ChannelQuery wanted;
  for (std::size_t begin = 0; begin < query.size();) {
    const std::size_t end = std::min(query.find('&', begin), query.size());
    const std::string_view part(query.data() + begin, end - begin);
    begin = end + 1;
    const std::size_t sign = std::min(part.find('='), part.size());
    const std::string_view name = part.substr(0, sign);
    const auto value = sse::percent_decode(part.substr(std::min(sign + 1, part.size())), true);
    if (name == "prefix") {
      if (!value || (!value->empty() && !sse::problem_of_text(*value).empty()))
        throw std::invalid_argument(
            "prefix takes the beginning of a channel's name, such as Room:");
      wanted.prefix = *value;
    } else if (name == "limit") {
      const std::string text = value.value_or("");
      const auto parsed = std::from_chars(text.data(), text.data() + text.size(), wanted.limit);
      if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || wanted.limit < 1 ||
          wanted.limit > kMost)
        throw std::invalid_argument("limit takes a number, 1 to 1000");
    }
  }
  return wanted;
}

ChannelList channel_list(std::vector<sse::Subscribers::Count> local,
                         const std::vector<ChannelCount>& elsewhere, std::size_t limit) {
  ChannelList list;
  std::unordered_map<std::string_view, std::size_t> places;
  places.reserve(local.size() + elsewhere.size());
  auto& channels = list.channels;
  channels.reserve(local.size() + elsewhere.size());  // so that names stay where they are
  for (auto& [channel, subscribers] : local) {
    channels.push_back({std::move(channel), subscribers, subscribers});
    places.emplace(channels.back().channel, channels.size() - 1);
  }
  for (const auto& [channel, subscribers] : elsewhere) {
    const auto [place, is_new] = places.try_emplace(channel, channels.size());
    if (is_new)
      channels.push_back({channel, subscribers, 0});
    else
      channels[place->second].subscribers += subscribers;
  }
  list.total = channels.size();
  for (const ListedChannel& one : channels) list.subscribers += one.subscribers;
  const auto most_first = [](const ListedChannel& a, const ListedChannel& b) {
    return a.subscribers != b.subscribers ? a.subscribers > b.subscribers : a.channel < b.channel;
  };
  const auto shown = std::min(limit, channels.size());
  std::partial_sort(channels.begin(), channels.begin() + static_cast<std::ptrdiff_t>(shown),
                    channels.end(), most_first);
  channels.resize(shown);
  return list;
}

nlohmann::json to_json(const ChannelList& list) {
  nlohmann::json channels = nlohmann::json::array();
  for (const ListedChannel& one : list.channels) {
    nlohmann::json entry = {
        {"channel", one.channel}, {"subscribers", one.subscribers}, {"local", one.local}};
    if (sse::pattern_prefix(one.channel)) entry["pattern"] = true;
    channels.push_back(std::move(entry));
  }
  return {
      {"channels", std::move(channels)}, {"total", list.total}, {"subscribers", list.subscribers}};
}

}  // namespace spillway
