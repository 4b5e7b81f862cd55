// The comments example: five event types, one handler each.
//
// A handler only says what is to be done. The worker does it, in the transaction that completes the
// event. An exception fails the event; its text ends up in spillway.dead_letters, so it says what
// to write instead.
#include <spillway/spillway.hpp>

#include <stdexcept>
#include <string>
#include <utility>

using namespace spillway;

namespace {

// The worker's message names the event, its id and its type; this is the rest of it.
[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument(what);
}

// An id may arrive as 42 or as "42"; both name the same channel.
std::string id_text(const std::string& name, const json& value) {
  if (value.is_string() && !value.get_ref<const std::string&>().empty()) {
    return value.get<std::string>();
  }
  if (value.is_number_integer()) return value.dump();
  refuse(name + " must be a non-empty string or a whole number, not " + value.dump() +
         "; write for example \"42\"");
}

const json& member(const Event& event, const char* name, const char* example) {
  if (!event.payload.is_object()) {
    refuse(std::string("the payload must be an object such as {") + example + "}");
  }
  const auto it = event.payload.find(name);
  if (it == event.payload.end() || it->is_null()) {
    refuse(std::string("payload.") + name + " is missing; write for example {" + example + "}");
  }
  return *it;
}

std::string id_of(const Event& event, const char* name, const char* example) {
  return id_text(std::string("payload.") + name, member(event, name, example));
}

std::string text_of(const Event& event, const char* name, const char* example) {
  const json& value = member(event, name, example);
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
    refuse(std::string("payload.") + name + " must be a non-empty string, not " + value.dump() +
           "; write for example {" + example + "}");
  }
  return value.get<std::string>();
}

// After a member() of the same payload: by then it is known to be an object.
std::string room_of(const Event& event) {
  const auto room = event.payload.find("room");
  if (room == event.payload.end() || room->is_null()) return "lobby";
  return id_text("payload.room", *room);
}

// {comment_id, item_id, author_name, text, timestamp}, context {item_owner_id}: the row, the item's
// stream and, where the context names an owner, the owner's notifications. What may stand in the
// row is for the table to say (an empty text, a column it does not have), so nothing is checked
// twice.
Effects comment_added(const Event& event) {
  const std::string item = id_of(event, "item_id", R"("item_id":"42","text":"hi")");
  Effects effects{
      Insert{"item_comments", event.payload},
      SSEBroadcast{"CommentStream:item:" + item, "CommentAdded", event.payload},
  };
  if (event.context.is_object()) {
    const auto owner = event.context.find("item_owner_id");
    if (owner != event.context.end() && !owner->is_null()) {
      json note{{"item_id", item}};
      for (const char* name : {"comment_id", "author_name", "text", "timestamp"}) {
        if (const auto it = event.payload.find(name); it != event.payload.end()) note[name] = *it;
      }
      effects.push_back(
          SSEBroadcast{"NotificationStream:user:" + id_text("context.item_owner_id", *owner),
                       "NewCommentNotification", std::move(note)});
    }
  }
  return effects;
}

// {user_id, text, notification_id?}: a notification that stays, for a user who may be away.
Effects notification_added(const Event& event) {
  const std::string user = id_of(event, "user_id", R"("user_id":"1","text":"Welcome")");
  return {
      Insert{"notifications", event.payload},
      SSEBroadcast{"NotificationStream:user:" + user, "NotificationAdded", event.payload},
  };
}

// {user, room?}
Effects user_joined(const Event& event) {
  const std::string user = text_of(event, "user", R"("user":"Ada","room":"lobby")");
  const std::string room = room_of(event);
  return {SSEBroadcast{"ChatStream:room:" + room, "user_joined", {{"user", user}, {"room", room}}}};
}

// {author_name, text, room?}: chat that leaves no row.
Effects message_sent(const Event& event) {
  const char* example = R"("room":"lobby","author_name":"Ada","text":"hello")";
  const std::string author = text_of(event, "author_name", example);
  const std::string text = text_of(event, "text", example);
  const std::string room = room_of(event);
  return {SSEBroadcast{"ChatStream:room:" + room,
                       "message",
                       {{"room", room}, {"author_name", author}, {"text", text}}}};
}

// {task_id, percent, message?}: percent from 0 to 100; at 100 the task is complete.
Effects task_progress(const Event& event) {
  const char* example = R"("task_id":"demo","percent":40,"message":"reading")";
  const std::string task = id_of(event, "task_id", example);
  const json& percent = member(event, "percent", example);
  if (!percent.is_number() || percent.get<double>() < 0 || percent.get<double>() > 100) {
    refuse("payload.percent must be a number from 0 to 100, not " + percent.dump());
  }
  const std::string channel = "TaskStream:task:" + task;
  Effects effects{SSEBroadcast{channel, "TaskProgress", event.payload}};
  if (percent.get<double>() >= 100) {
    effects.push_back(SSEBroadcast{channel, "TaskComplete", {{"task_id", task}}});
  }
  return effects;
}

}  // namespace

SPILLWAY_HANDLERS(registry) {
  registry.on("CommentAdded", comment_added)
      .on("NotificationAdded", notification_added)
      .on("UserJoined", user_joined)
      .on("MessageSent", message_sent)
      .on("TaskProgress", task_progress);
}
