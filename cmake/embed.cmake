# Turns a file into a C++ source that holds its bytes; no compiler's limit on string literals bites.
#
#   cmake -DINPUT=page.html -DOUTPUT=page.cpp -DHEADER=eval/report_html.h
#         -DFUNCTION=built_report_page -P embed.cmake
#
# The source defines std::string_view pare::FUNCTION(), declared in HEADER.
cmake_path(GET INPUT FILENAME name)
file(READ "${INPUT}" hex HEX)
# 8192 bytes a line: few lines, yet none that an editor or a compiler would choke on.
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(LENGTH "${bytes}" left)
set(body "")
set(position 0)
while(position LESS left)
  string(SUBSTRING "${bytes}" ${position} 40960 line)
  string(APPEND body "    ${line}\n")
  math(EXPR position "${position} + 40960")
endwhile()
file(WRITE "${OUTPUT}" "// Made by cmake/embed.cmake from ${name}.
#include \"${HEADER}\"

namespace pare {
namespace {
constexpr unsigned char kBytes[] = {
${body}};
}  // namespace
std::string_view ${FUNCTION}() {
  return {reinterpret_cast<const char*>(kBytes), sizeof(kBytes)};
}
}  // namespace pare
")
