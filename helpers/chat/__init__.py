"""The gate for text: chats checked in one place, and encoded so that what people write never becomes control."""

from helpers.chat.collator import AudioFlamingo3DataCollator, longest_clip
from helpers.chat.messages import ChatError, check_chat, check_text, make_chat
from helpers.chat.tokens import IGNORED, answer_labels, answer_marks, encode_chat, encode_chats, encode_text

__all__ = ["IGNORED", "AudioFlamingo3DataCollator", "ChatError", "answer_labels", "answer_marks", "check_chat",
           "check_text", "encode_chat",
           "encode_chats", "encode_text", "longest_clip", "make_chat"]
