# Turns files into a C++ source with one string per file, so that the binary needs nothing beside it.
#
#   cmake -DOUT=out.cpp -DSYMBOL=spillway::migrations::files "-DFILES=a.sql;b.sql" -P embed.cmake
#
# defines  extern const EmbeddedFile SYMBOL[]  (see processor/embedded_file.hpp), in the order given.
string(REGEX MATCH "^(.*)::([a-z_]+)$" _ "${SYMBOL}")
set(namespace "${CMAKE_MATCH_1}")
set(name "${CMAKE_MATCH_2}")
set(text "#include \"processor/embedded_file.hpp\"\n\nnamespace ${namespace} {\n")
string(APPEND text "extern const spillway::EmbeddedFile ${name}[];\nextern const std::size_t ${name}_count;\n")
set(entries "")
set(count 0)
foreach(file IN LISTS FILES)
  get_filename_component(base "${file}" NAME)
  file(READ "${file}" hex HEX)
  string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
  file(SIZE "${file}" size)
  string(APPEND text "static const char file_${count}[] = {\n${bytes}};\n")
  string(APPEND entries "  {\"${base}\", {file_${count}, ${size}}},\n")
  math(EXPR count "${count} + 1")
endforeach()
string(APPEND text "const spillway::EmbeddedFile ${name}[] = {\n${entries}};\nconst std::size_t ${name}_count = ${count};\n}  // namespace ${namespace}\n")
file(WRITE "${OUT}" "${text}")
