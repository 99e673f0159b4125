// Reports that are damaged, of another kind, or made to do harm: always one error that names the
// file and the place.
#include <gmock/gmock.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "pare/error.h"
#include "pare/evaluate.h"
#include "tests/eval_report/sample_report.h"

namespace pare {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

/// The message; fails where the text is read, or something else is thrown.
std::string refusal(const std::string& text) {
  try {
    evaluate_report_from_json(text, "eval.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    EXPECT_THAT(error.what(), ::testing::StartsWith("eval.json: "));
    EXPECT_LT(std::string(error.what()).size(), 600U);
    return error.what();
  }
  ADD_FAILURE() << "was read";
  return "";
}

std::string refusal_of(const std::function<void(Json&)>& damage) {
  Json json = Json::parse(to_json(sample_report()));
  damage(json);
  return refusal(json.dump());
}

TEST(HostileReport, NamesTheKeyPath) {
  EXPECT_THAT(
      refusal_of([](Json& json) { json["candidates"][1]["tasks"]["mmlu"]["flips"].erase("lost"); }),
      HasSubstr("eval.json: candidates[1].tasks.mmlu.flips: has no \"lost\""));
  EXPECT_THAT(
      refusal_of([](Json& json) { json["candidates"][1]["tasks"]["mmlu"]["flips"]["lost"] = "3"; }),
      HasSubstr("candidates[1].tasks.mmlu.flips.lost: expected a whole number from 0 to "
                "2^63 - 1, found \"3\""));
  EXPECT_THAT(
      refusal_of(
          [](Json& json) { json["baseline"]["tasks"]["mmlu"]["groups"]["a b\x1b"] = nullptr; }),
      HasSubstr("baseline.tasks.mmlu.groups[\"a b\\x1b\"]: expected an object, found null"));
}

TEST(HostileReport, RefusesWhatNoReportCanHold) {
  const std::string mmlu = "candidates[0].tasks.mmlu.";
  const std::vector<std::pair<std::string, std::function<void(Json&)>>> cases = {
      {mmlu + "accuracy:", [](Json& m) { m["accuracy"] = 1.5; }},
      {mmlu + "accuracy:", [](Json& m) { m["accuracy"] = nullptr; }},
      {mmlu + "right:", [](Json& m) { m["right"] = 20000; }},
      {mmlu + "n:", [](Json& m) { m["n"] = -1; }},
      {mmlu + "n:", [](Json& m) { m["n"] = 1.5; }},
      {mmlu + "n:", [](Json& m) { m["n"] = 18446744073709551615U; }},
      {mmlu + "n:", [](Json& m) { m["n"] = true; }},
      {mmlu + "mcnemar_p:", [](Json& m) { m["mcnemar_p"] = -0.1; }},
      {mmlu + "difference_ci:", [](Json& m) { m["difference_ci"] = "0 … 1"; }},
      {mmlu + "difference_ci:",
       [](Json& m) {
         m["difference_ci"] = {1, -1};
       }},
      {mmlu + "difference_ci:",
       [](Json& m) {
         m["difference_ci"] = {1, 2, 3};
       }},
      {mmlu + "difference_ci[1]:",
       [](Json& m) {
         m["difference_ci"] = {1, "2"};
       }},
      {mmlu + "groups:", [](Json& m) { m["groups"] = Json::array(); }},
      {mmlu + "verdict:", [](Json& m) { m["verdict"] = 7; }},
  };
  for (const auto& [place, change] : cases) {
    const auto& damage = change;
    EXPECT_THAT(refusal_of([&](Json& json) { damage(json["candidates"][0]["tasks"]["mmlu"]); }),
                HasSubstr(place));
  }
  const std::string text = "candidates[1].tasks.perplexity.";
  const std::vector<std::pair<std::string, std::function<void(Json&)>>> perplexities = {
      {text + "ppl_se:", [](Json& p) { p["ppl_se"] = -1; }},
      {text + "kl_p99_ci:", [](Json& p) { p["kl_p99_ci"] = {1}; }},
      {text + "kl_histogram.edges:",
       [](Json& p) {
         p["kl_histogram"]["edges"] = {0, 2, 1, 3};
       }},
      {text + "kl_histogram.counts:", [](Json& p) { p["kl_histogram"]["counts"] = {1}; }},
      {text + "kl_histogram.counts[0]:", [](Json& p) { p["kl_histogram"]["counts"][0] = 0.5; }},
      {text + "by_position[0].tokens:", [](Json& p) { p["by_position"][0]["tokens"] = "x"; }},
      {text + "by_token_class:", [](Json& p) { p["by_token_class"] = 3; }},
  };
  for (const auto& [place, change] : perplexities) {
    const auto& damage = change;
    EXPECT_THAT(
        refusal_of([&](Json& json) { damage(json["candidates"][1]["tasks"]["perplexity"]); }),
        HasSubstr(place));
  }
}

TEST(HostileReport, RefusesAnUnknownSchemaKindAndConfidence) {
  EXPECT_THAT(refusal("{}"), HasSubstr("not a report of accuracy-eval"));
  EXPECT_THAT(refusal_of([](Json& json) { json["schema"] = "pare.eval/2"; }),
              HasSubstr("\"pare.eval/1\""));
  EXPECT_THAT(refusal_of([](Json& json) { json["schema"] = 1; }), HasSubstr("schema: expected"));
  EXPECT_THAT(refusal_of([](Json& json) { json["tasks"][0]["kind"] = "essay"; }),
              HasSubstr("tasks[0].kind"));
  EXPECT_THAT(refusal_of([](Json& json) { json["confidence"] = 0.9; }), HasSubstr("confidence"));
  EXPECT_THAT(refusal_of([](Json& json) { json["tasks"][1]["name"] = "perplexity"; }),
              HasSubstr("tasks[1].name"));
  EXPECT_THAT(refusal_of([](Json& json) { json["candidates"][0]["tasks"].erase("mmlu"); }),
              HasSubstr("candidates[0].tasks: has no \"mmlu\""));
  EXPECT_THAT(refusal_of([](Json& json) { json["tasks"].erase(1); }),
              HasSubstr("tasks.mmlu: the report's list of tasks has no such task"));
  EXPECT_THAT(refusal_of([](Json& json) { json["candidates"][1]["layers"][2]["shape"] = {1}; }),
              HasSubstr("candidates[1].layers[2].shape"));
}

TEST(HostileReport, RefusesWhatIsNoJson) {
  for (const char* text : {"", " ", "[]", "null", "3", "\"x\"", "{\"schema\":\"pare.eval/1\"",
                           "{\"a\":NaN}", "{\"a\":1e999}", "{\"a\":\"\xff\"}", "{\"a\":1,\"a\":2}",
                           "{\"schema\":\"pare.eval/1\"} x"}) {
    SCOPED_TRACE(text);
    refusal(text);
  }
  EXPECT_THAT(refusal(to_json(sample_report()) + "}"), HasSubstr("not valid JSON"));
}

TEST(HostileReport, RefusesDeepAndGiantFiles) {
  const std::string deep(1'000'000, '[');
  EXPECT_THAT(refusal("{\"a\":" + deep), HasSubstr("nested deeper"));
  EXPECT_THAT(refusal(std::string(size_t{64} << 20, ' ') + "{}"), HasSubstr("at most"));
  // Messages stay short, whatever stands in the file.
  const std::string word(1'000'000, 'x');
  refusal("{\"" + word + "\":\"" + word);
  refusal_of([&](Json& json) { json["schema"] = word; });
  refusal_of([&](Json& json) { json["tasks"][0]["name"] = word; });
  refusal_of([&](Json& json) { json["candidates"][0]["bytes"] = word; });
}

TEST(HostileReport, IgnoresWhatItDoesNotKnow) {
  const std::string text = to_json(sample_report());
  Json json = Json::parse(text);
  json["later"] = {1, 2};
  json["tasks"][0]["later"] = "x";
  json["candidates"][0]["tasks"]["mmlu"]["flips"]["later"] = nullptr;
  EXPECT_EQ(to_json(evaluate_report_from_json(json.dump(), "eval.json")), text);
}

// Every value in turn by one of another type: read or refused with its place, never a crash.
TEST(HostileReport, SurvivesAnyValueReplaced) {
  const Json original = Json::parse(to_json(sample_report()));
  const std::vector<Json> others = {nullptr, -1, "x", 1e300, Json::array(), Json::object()};
  size_t refused = 0;
  size_t which = 0;
  const Json values = original.flatten();
  for (const auto& [key, value] : values.items()) {
    Json json = original;
    json[Json::json_pointer(key)] = others[which++ % others.size()];
    try {
      evaluate_report_from_json(json.dump(), "eval.json");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed) << key;
      ++refused;
    }
    if (which > 600) break;
  }
  EXPECT_GT(refused, which / 2);
}

TEST(HostileReport, SurvivesCutsAndChangedBytes) {
  const std::string text = to_json(sample_report());
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int trial = 0; trial < 200; ++trial) {
    std::string damaged = text;
    if (trial % 2 == 0) {
      damaged.resize(random() % text.size());
      refusal(damaged);
      continue;
    }
    damaged[random() % text.size()] = static_cast<char>(random());
    try {
      evaluate_report_from_json(damaged, "eval.json");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInputMalformed);
    }
  }
}

}  // namespace
}  // namespace pare
