"""Generated Japanese customers: the same ones for the same seed, at example.jp only. Pure.

About one in twenty has something that breaks careless software: characters outside JIS X 0208 (髙, 﨑), one that
Shift_JIS does not have at all (𠮷), some whose second Shift_JIS byte is a backslash (表, ソ, 能), ㈱, ～, half-width
kana, decomposed kana, quotes and commas, or an address with dots where RFC 5321 forbids them.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

PLANS: Mapping[str, str] = {"free": "無料会員", "standard": "スタンダード会員", "premium": "プレミアム会員"}
"""The keys of a choice column and what they read at a vendor."""

HARD_SHARE = 0.05

_FAMILIES = (
    ("佐藤", "サトウ", "sato"),
    ("鈴木", "スズキ", "suzuki"),
    ("高橋", "タカハシ", "takahashi"),
    ("田中", "タナカ", "tanaka"),
    ("伊藤", "イトウ", "ito"),
    ("渡辺", "ワタナベ", "watanabe"),
    ("山本", "ヤマモト", "yamamoto"),
    ("中村", "ナカムラ", "nakamura"),
    ("小林", "コバヤシ", "kobayashi"),
    ("加藤", "カトウ", "kato"),
    ("吉田", "ヨシダ", "yoshida"),
    ("山田", "ヤマダ", "yamada"),
    ("佐々木", "ササキ", "sasaki"),
    ("松本", "マツモト", "matsumoto"),
    ("井上", "イノウエ", "inoue"),
    ("木村", "キムラ", "kimura"),
)

_GIVEN = (
    ("太郎", "タロウ", "taro"),
    ("花子", "ハナコ", "hanako"),
    ("翔太", "ショウタ", "shota"),
    ("美咲", "ミサキ", "misaki"),
    ("大輔", "ダイスケ", "daisuke"),
    ("陽子", "ヨウコ", "yoko"),
    ("健一", "ケンイチ", "kenichi"),
    ("さくら", "サクラ", "sakura"),
    ("直樹", "ナオキ", "naoki"),
    ("由美子", "ユミコ", "yumiko"),
    ("蓮", "レン", "ren"),
    ("結衣", "ユイ", "yui"),
)

HARD_NAMES = (
    ("髙橋", "タカハシ"),
    ("宮﨑", "ミヤザキ"),
    ("𠮷田", "ヨシダ"),
    ("㈱山田商店", "ヤマダショウテン"),
    ("渡～辺", "ワタナベ"),
    ("表", "オモテ"),
    ("能登", "ノト"),
    ("ソーン", "ソーン"),
    ("ﾔﾏﾀﾞ", "ﾔﾏﾀﾞ"),
    ("か\u3099とう", "カ\u3099トウ"),
    ('山田"タロ,ウ"', "ヤマダ"),
    ("十予申", "ジュウヨサル"),
    ("塚福", "ツカフク"),
)
"""Family names and their readings. 𠮷 alone cannot be written in Shift_JIS at all."""

_PREFECTURES = (
    "北海道",
    "宮城県",
    "東京都",
    "神奈川県",
    "新潟県",
    "愛知県",
    "京都府",
    "大阪府",
    "広島県",
    "福岡県",
    "沖縄県",
)

_FIRST_BIRTHDAY = date(1930, 1, 1)
_BIRTHDAYS = 28_000
"""So many days of birth from the first, which ends in 2006."""


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer as an internal system knows it. `birthday` is ISO 8601, `plan` a key of PLANS."""

    email: str
    name: str
    kana: str
    birthday: str
    prefecture: str
    plan: str

    def data(self) -> dict[str, str]:
        """Return what a webhook carries as `data`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def generate(n: int, seed: int) -> Iterator[Customer]:
    """Yield n customers with different addresses; the first m of n are the same for every n."""
    chance = random.Random(seed)
    for number in range(1, n + 1):
        family, family_kana, family_latin = chance.choice(_FAMILIES)
        given, given_kana, given_latin = chance.choice(_GIVEN)
        email = f"{family_latin}.{given_latin}.{number:06d}@example.jp"
        if chance.random() < HARD_SHARE:
            family, family_kana = chance.choice(HARD_NAMES)
            email = _hard_address(chance.randrange(4), email)
        yield Customer(
            email=email,
            name=f"{family} {given}",
            kana=f"{family_kana} {given_kana}",
            birthday=(_FIRST_BIRTHDAY + timedelta(days=chance.randrange(_BIRTHDAYS))).isoformat(),
            prefecture=chance.choice(_PREFECTURES),
            plan=chance.choice(tuple(PLANS)),
        )


def _hard_address(which: int, email: str) -> str:
    """Return an address as Japanese carriers gave them out, or one in mixed case; most stay as they are."""
    local, domain = email.split("@")
    match which:
        case 0:
            return f"{local.replace('.', '..', 1)}@{domain}"
        case 1:
            return f"{local}.@{domain}"
        case 2:
            return f"{local.title()}@{domain}"
        case _:
            return email
