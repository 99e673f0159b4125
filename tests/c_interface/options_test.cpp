// Options by name: all of the structures' fields are there, and values of the wrong kind are not
// taken for something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <sstream>

#include "c_interface/job_options.h"
#include "pare/error.h"

namespace pare {
namespace {

using ::testing::HasSubstr;

std::string usage_of(JobOptions& options, const std::string& name, const std::string& value) {
  try {
    options.set(name, value);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    return error.what();
  }
  return "";
}

/// Type and name of each field of a structure, as its header spells them.
std::vector<std::pair<std::string, std::string>> fields(const std::string& header,
                                                        const std::string& structure) {
  std::ifstream file(std::string(PARE_SOURCE_DIR) + "/include/pare/" + header);
  std::stringstream text;
  text << file.rdbuf();
  std::string body = text.str();
  const size_t begin = body.find("struct " + structure + " {");
  EXPECT_NE(begin, std::string::npos) << structure;
  body = body.substr(begin, body.find("\n};", begin) - begin);
  body = std::regex_replace(body, std::regex("//[^\n]*"), "");
  std::vector<std::pair<std::string, std::string>> found;
  const std::regex field(R"((std::[\w:<>, ]+|\w+)\s+(\w+)\s*(=[^;]*)?;)");
  for (std::sregex_iterator match(body.begin(), body.end(), field), end; match != end; ++match) {
    found.emplace_back((*match)[1], (*match)[2]);
  }
  return found;
}

/// A value that a field of the type takes, and one that it does not.
std::pair<std::string, std::string> values_for(const std::string& type) {
  if (type == "bool") return {"true", "1"};
  if (type == "double" || type == "std::optional<double>") return {"0.25", "1%"};
  if (type == "int" || type == "int64_t") return {"-3", "3.5"};
  if (type == "uint64_t") return {"18446744073709551615", "-1"};
  if (type.find("map") != std::string::npos || type.find("pair") != std::string::npos) {
    return {"a=b", "ab"};
  }
  return {"text", ""};
}

void expect_all(JobKind kind, const std::string& header, const std::string& structure,
                const std::set<std::string>& left_out) {
  const auto all = fields(header, structure);
  EXPECT_GT(all.size(), 2U);
  for (const auto& [type, name] : all) {
    JobOptions options(kind);
    const auto [good, bad] = values_for(type);
    if (left_out.contains(name)) {
      EXPECT_THAT(usage_of(options, name, good), HasSubstr("not known"));
      continue;
    }
    EXPECT_EQ(usage_of(options, name, good), "") << type << " " << structure << "::" << name;
    if (!bad.empty()) {
      EXPECT_THAT(usage_of(options, name, bad), HasSubstr("\"" + name + "\": expected")) << type;
    }
  }
}

TEST(Options, EveryFieldOfTheStructuresHasItsName) {
  expect_all(JobKind::kQuantize, "quantize.h", "QuantizeOptions", {"explicit_options"});
  expect_all(JobKind::kMixed, "quantize.h", "QuantizeOptions", {"explicit_options"});
  expect_all(JobKind::kMixed, "mixed_precision.h", "MixedOptions", {"quantize"});
  expect_all(JobKind::kEvaluate, "evaluate.h", "EvaluateOptions", {"keep_samples"});
  expect_all(JobKind::kEvaluate, "gates.h", "Gates", {});
  expect_all(JobKind::kExport, "engines.h", "ExportOptions", {});
}

TEST(Options, ArriveWhereTheyBelong) {
  JobOptions options(JobKind::kQuantize);
  options.set("qformat", "int4_awq");
  options.set("calibration_size", "17");
  options.set("symmetric", "false");
  options.set("smooth_strength", "0.5");
  options.set("seed", "18446744073709551615");
  options.set("exclude", "lm_head");
  options.set("exclude", "layers\\.0\\.");
  options.set("overrides", "a=b=fp8");
  EXPECT_EQ(options.quantize.qformat, "int4_awq");
  EXPECT_EQ(options.quantize.calibration_size, 17);
  EXPECT_FALSE(options.quantize.symmetric);
  EXPECT_EQ(options.quantize.smooth_strength, 0.5);
  EXPECT_EQ(options.quantize.seed, 18446744073709551615U);
  EXPECT_EQ(options.quantize.exclude, (std::vector<std::string>{"lm_head", "layers\\.0\\."}));
  EXPECT_EQ(options.quantize.overrides[0], (std::pair<std::string, std::string>("a=b", "fp8")));
  // A recipe must not set what was set here.
  EXPECT_THAT(options.quantize.explicit_options, ::testing::Contains("calib_size"));
  JobOptions evaluation(JobKind::kEvaluate);
  evaluation.set("tasks", "mmlu");
  evaluation.set("tasks", "piqa");
  evaluation.set("task_data", "mmlu=a=b");
  evaluation.set("max_loss", "0.01");
  EXPECT_EQ(evaluation.evaluate.tasks, (std::vector<std::string>{"mmlu", "piqa"}));
  EXPECT_EQ(evaluation.evaluate.task_data.at("mmlu"), "a=b");
  EXPECT_EQ(evaluation.gates.max_loss, 0.01);
}

TEST(Options, RefuseWhatIsNoValue) {
  JobOptions options(JobKind::kQuantize);
  EXPECT_THAT(usage_of(options, "bits", "4"), HasSubstr("qformat"));
  for (const char* text : {"", " 1", "1 ", "0x10", "1e3", "9223372036854775808", "one"}) {
    EXPECT_THAT(usage_of(options, "calibration_size", text), HasSubstr("whole number")) << text;
  }
  for (const char* text : {"", "nan", "inf", "1e999", "1,5"}) {
    EXPECT_THAT(usage_of(options, "smooth_strength", text), HasSubstr("number")) << text;
  }
  for (const char* text : {"", "1", "True", "yes"}) {
    EXPECT_THAT(usage_of(options, "force", text), HasSubstr("true or false")) << text;
  }
  for (const char* text : {"", "=fp8", "a=", "fp8"}) {
    EXPECT_THAT(usage_of(options, "overrides", text), HasSubstr("KEY=VALUE")) << text;
  }
}

}  // namespace
}  // namespace pare
