# Turns a file into a C++ source that holds its bytes; no compiler's limit on string literals bites.
#
#   cmake -DINPUT=page.html -DOUTPUT=page.cpp -P embed.cmake
#
# The source defines pare::built_report_page(), declared in eval/report_html.h.
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
file(WRITE "${OUTPUT}" "// Made by report/embed.cmake from report/page.html.
#include \"eval/report_html.h\"

namespace pare {
namespace {
constexpr char kBytes[] = {
${body}};
}  // namespace
std::string_view built_report_page() { return {kBytes, sizeof(kBytes)}; }
}  // namespace pare
")
