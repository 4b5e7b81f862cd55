#include "processor/handler_library.hpp"

#include <gtest/gtest.h>

#include "spillway/version.hpp"

namespace spillway {
namespace {

std::string error_of(const std::string& path) {
  Registry registry;
  try {
    load_handler_library(path, registry);
  } catch (const HandlerLibraryError& error) {
    return error.what();
  }
  return "no error";
}

TEST(HandlerLibrary, FillsTheRegistry) {
  Registry registry;
  load_handler_library(GOOD_HANDLERS, registry);
  ASSERT_NE(registry.find("Good"), nullptr);
  EXPECT_EQ(registry.find("Other"), nullptr);
  Event event;
  event.payload = {{"a", 1}};
  EXPECT_EQ(registry.find("Good")->at(0).handler(event).effects,
            (Effects{SSEBroadcast{"good", "Good", {{"a", 1}}}}));
  EXPECT_EQ(registry.find("Good")->at(0).origin, GOOD_HANDLERS);
}

TEST(HandlerLibrary, OneOfAnotherVersionIsRefusedAndBothAreNamed) {
  const std::string error = error_of(OLD_HANDLERS);
  EXPECT_NE(error.find("was built against [spillway 0."), std::string::npos) << error;
  EXPECT_NE(error.find("layout 0"), std::string::npos) << error;
  EXPECT_NE(error.find("this worker is [spillway 0."), std::string::npos) << error;
  EXPECT_NE(error.find("layout " SPILLWAY_STRINGIFY(SPILLWAY_ABI_VERSION)), std::string::npos)
      << error;
  EXPECT_NE(error.find("rebuild it"), std::string::npos) << error;
}

TEST(HandlerLibrary, WhatIsNoneIsSaid) {
  EXPECT_EQ(error_of("/nonexistent/x.so"), "--handlers /nonexistent/x.so: there is no such file");
  EXPECT_NE(error_of("/tmp").find("is a directory"), std::string::npos);
  EXPECT_NE(error_of(NO_HANDLERS).find("is not a handler library; it needs one SPILLWAY_HANDLERS"),
            std::string::npos);
  EXPECT_NE(error_of("/etc/passwd").find("cannot be loaded"), std::string::npos);
}

TEST(Registry, RefusesWhatCannotBeCalled) {
  Registry registry;
  EXPECT_THROW(registry.on("", [](const Event&) { return Effects{}; }), std::invalid_argument);
  EXPECT_THROW(registry.on("T", nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace spillway
