// A shared library that is none of handlers.
extern "C" int spillway_test_nothing() {
  return 0;
}
