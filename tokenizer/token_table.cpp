#include "tokenizer/token_table.h"

#include <algorithm>
#include <utility>

#include "pare/error.h"

namespace pare {

TokenTable::TokenTable(std::string origin) : origin_(std::move(origin)) {}

void TokenTable::add(int32_t id, std::string_view content) {
  by_id_.emplace(id, Entry{std::string(content), false, false});
  size_ = std::max(size_, id + 1);
}

std::vector<AddedToken> TokenTable::add_tokens(
    const std::vector<AddedToken>& tokens,
    const std::function<int32_t(std::string_view)>& find_known) {
  const auto fail = [&](const AddedToken& token, const std::string& what) {
    throw Error(ErrorCode::kInputMalformed,
                origin_ + ": added token " + quoted_text(token.content) + what);
  };
  std::vector<AddedToken> kept;
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    if (const int32_t listed = find_added(token.content); listed >= 0) {
      if (listed != token.id) {
        fail(token, " is listed with two ids, " + std::to_string(listed) + " and " +
                        std::to_string(token.id));
      }
      continue;
    }
    if (const int32_t known = find_known(token.content); known >= 0 && known != token.id) {
      fail(token, " has id " + std::to_string(token.id) + ", but the vocabulary says " +
                      std::to_string(known));
    }
    const auto [entry, fresh] = by_id_.try_emplace(token.id);
    if (!fresh && entry->second.content != token.content) {
      fail(token, ": id " + std::to_string(token.id) + " belongs to " +
                      quoted_text(entry->second.content) + " too");
    }
    entry->second = {token.content, true, token.special};
    added_ids_.emplace(token.content, token.id);
    size_ = std::max(size_, token.id + 1);
    kept.push_back(token);
  }
  return kept;
}

const TokenTable::Entry& TokenTable::at(int32_t id) const {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) {
    throw Error(ErrorCode::kInputMalformed,
                origin_ + ": no token has the id " + std::to_string(id));
  }
  return found->second;
}

int32_t TokenTable::find_added(std::string_view content) const {
  const auto found = added_ids_.find(content);
  return found == added_ids_.end() ? -1 : found->second;
}

std::vector<int32_t> special_ids(const std::vector<AddedToken>& tokens) {
  std::vector<int32_t> ids;
  for (const AddedToken& token : tokens) {
    if (token.special && !token.content.empty() &&
        code_point_at(token.content, 0).size < token.content.size()) {
      ids.push_back(token.id);
    }
  }
  return ids;
}

}  // namespace pare
