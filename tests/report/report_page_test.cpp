// The page: what goes in comes out, whatever it is, and nothing in it reaches for a network.
#include "pare/report_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include "eval/report_html.h"
#include "pare/error.h"

namespace pare {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

Json report(const std::string& name = "base") {
  return {{"schema", "pare.eval/1"},
          {"baseline", {{"name", name}, {"tasks", {{"perplexity", {{"ppl", 5.4721}}}}}}},
          {"candidates", Json::array()}};
}

/// The JSON text that a browser finds in the page: up to the first thing that ends the element.
std::string embedded(const std::string& page) {
  const std::string open = "<script type=\"application/json\" id=\"pare-reports\">";
  const size_t begin = page.find(open);
  if (begin == std::string::npos) return "";
  const size_t from = begin + open.size();
  return page.substr(from, page.find("</script", from) - from);
}

std::string message_of(const std::vector<std::string>& reports, ErrorCode code) {
  try {
    report_page(reports);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(ReportPage, HoldsTheReportsInOrder) {
  const Json found = Json::parse(embedded(
      report_page({report("a").dump(2), report("b").dump(), "\xef\xbb\xbf" + report("c").dump()})));
  EXPECT_EQ(found["schema"], "pare.compare/1");
  EXPECT_EQ(found["reports"], Json::array({report("a"), report("b"), report("c")}));
}

TEST(ReportPage, IsThePageAroundThem) {
  const std::string page = report_page({report().dump()});
  const std::string json = embedded(page);
  std::string rest = page;
  rest.replace(rest.find(json), json.size(), kReportsPlace);
  EXPECT_TRUE(rest == built_report_page());
  EXPECT_EQ(page, report_page({report().dump()}));
}

TEST(ReportPage, IsTheBuiltFile) {
  std::ifstream file(PARE_SOURCE_DIR "/report/page.html", std::ios::binary);
  const std::string built{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(built == built_report_page());
  EXPECT_EQ(built.find(kReportsPlace), built.rfind(kReportsPlace));
}

TEST(ReportPage, NumbersKeepEveryDigit) {
  std::string text = report().dump();
  text.insert(text.size() - 1, R"(,"a":0.1000000000000000055511151231257827,"b":-0.0,"c":1E-300)");
  EXPECT_THAT(report_page({text}),
              HasSubstr(R"("a":0.1000000000000000055511151231257827,"b":-0.0,"c":1E-300)"));
}

TEST(ReportPage, HostileNamesStayText) {
  const std::vector<std::string> names = {
      "</script><img src=x onerror=alert(1)>",
      "<!--<script>",
      "]]></SCRIPT\t>",
      "&lt;/script&gt;&#60;",
      "\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xae",
      R"(\)",
      R"(\"</script>\\")",
      R"({"schema":"pare.compare/1","reports":[]})",
      "\u4e2d\U0001f600",
      std::string("nul\0nul", 7),
  };
  for (const std::string& name : names) {
    Json hostile = report(name);
    hostile[name] = Json::array({name, {{name, name}}});
    const std::string json = embedded(report_page({hostile.dump()}));
    EXPECT_EQ(json.find_first_of("<>&"), std::string::npos) << name;
    EXPECT_EQ(json.find("\xe2\x80\xa8"), std::string::npos) << name;
    EXPECT_EQ(Json::parse(json)["reports"][0], hostile) << name;
  }
}

TEST(ReportPage, RandomTextsComeBack) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::vector<std::string> pieces = {"<",
                                           ">",
                                           "&",
                                           "\"",
                                           "\\",
                                           "/",
                                           "script",
                                           "!--",
                                           " ",
                                           "\n",
                                           "\xe2\x80\xa8",
                                           "\xe2\x80\xa9",
                                           "\xe2\x80\xaa",
                                           "\xc3\xa9",
                                           "u003c",
                                           "{",
                                           "]"};
  for (int trial = 0; trial < 200; ++trial) {
    std::string name;
    for (int i = 0; i < 30; ++i) name += pieces[random() % pieces.size()];
    const Json value = report(name);
    const std::string json = escaped_json(value.dump(trial % 3));
    EXPECT_EQ(Json::parse(json), value) << name;
    EXPECT_EQ(json.find_first_of("<>&"), std::string::npos) << name;
  }
}

TEST(ReportPage, RefusesWhatIsNoReport) {
  EXPECT_THAT(message_of({}, ErrorCode::kUsage), HasSubstr("at least one"));
  const std::vector<std::string> texts = {
      "",
      "{",
      "[]",
      "\"pare.eval/1\"",
      "{}",
      R"({"schema":1})",
      R"({"schema":"pare.verify/1"})",
      R"({"schema":"pare.eval/1"})",
      R"({"schema":"pare.eval/1","baseline":[]})",
      R"({"schema":"pare.eval/1","baseline":{"name":"\xff"}})",
      "{\"schema\":\"pare.eval/1\",\"baseline\":{\"name\":\"\xff\"}}",
      R"({"schema":"pare.eval/1","baseline":{"n":NaN}})",
      R"({"schema":"pare.eval/1","baseline":{"n":1e999}})",
      report().dump() + "x",
      report().dump() + report().dump(),
      std::string("\0", 1),
      std::string(100000, '[')};
  for (const std::string& text : texts) {
    const std::string message = message_of({report().dump(), text}, ErrorCode::kInputMalformed);
    EXPECT_THAT(message, HasSubstr("report 2 of 2: expected a report of the schema"))
        << text.substr(0, 60);
  }
  EXPECT_THAT(message_of({R"({"schema":"pare.verify/1"})"}, ErrorCode::kInputMalformed),
              HasSubstr("pare.verify/1"));
}

TEST(ReportPage, NeedsNoNetwork) {
  // The markup, without the licences' comment and the script, whose requests the browser's test
  // would see and the policy forbids.
  const std::string page = report_page({report().dump()});
  const size_t licences = page.find("<!--");
  const size_t style = page.find("-->");
  const size_t script = page.rfind("<script>");
  ASSERT_LT(licences, style);
  ASSERT_LT(style, script);
  ASSERT_LT(script, page.size());
  const std::string markup = page.substr(0, licences) + page.substr(style, script - style);
  for (const char* pattern :
       {R"(<(link|img|iframe|object|embed|base|form)\b)", R"(\ssrc\s*=)", R"(@import)", R"(url\()",
        R"(href\s*=\s*["']?[^"'#])", R"(\son[a-z]+\s*=)", "//"}) {
    std::smatch found;
    EXPECT_FALSE(std::regex_search(markup, found, std::regex(pattern, std::regex::icase)))
        << pattern << ": " << found.str();
  }
  EXPECT_THAT(markup, HasSubstr("default-src 'none'; script-src 'sha256-"));
}

}  // namespace
}  // namespace pare
