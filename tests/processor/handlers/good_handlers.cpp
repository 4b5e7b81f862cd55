#include <spillway/spillway.hpp>

SPILLWAY_HANDLERS(registry) {
  registry.on("Good", [](const spillway::Event& event) {
    return spillway::Effects{spillway::SSEBroadcast{"good", "Good", event.payload}};
  });
}
