"""What can be wrong with a table, in words: a code, and a text in each language, for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from student_success.core.errors import DatasetError
from student_success.domain.profile import Text

SHOWN = 40
"""Number of characters of a text that a message repeats."""


def _both(fr: str, en: str) -> Text:
    return Text(fr=fr, en=en)


TEXTS: Mapping[str, Text] = {
    # The file cannot be read.
    "empty": _both(
        "Le fichier est vide. Choisissez un autre fichier.",
        "The file is empty. Choose another file.",
    ),
    "format": _both(
        "Ce format ne peut pas être lu avec certitude. Enregistrez la liste en .xlsx, .ods ou CSV.",
        "This format cannot be read with certainty. Save the list as .xlsx, .ods or CSV.",
    ),
    "password": _both(
        "Le fichier est protégé par un mot de passe, ou endommagé. Enregistrez-le sans mot de "
        "passe.",
        "The file is protected by a password, or damaged. Save it without a password.",
    ),
    "not_a_table": _both(
        "Ce fichier n'est pas un tableau CSV, Excel ou OpenDocument lisible. Enregistrez la liste "
        "en .xlsx, .ods ou CSV.",
        "This file is not a readable CSV, Excel or OpenDocument table. Save the list as .xlsx, "
        ".ods or CSV.",
    ),
    "broken_quotes": _both(
        "Le fichier n'est pas un CSV correct : les guillemets ne se ferment pas (ligne {at}). "
        "Corrigez cette ligne, ou enregistrez de nouveau la liste en CSV.",
        "The file is not correct CSV: quotes are not closed properly (line {at}). Correct this "
        "line, or save the list as CSV again.",
    ),
    "quoted_lines": _both(
        "Chaque ligne entière est entre guillemets. Enregistrez le fichier à nouveau en CSV, sans "
        "guillemets autour des lignes.",
        "Each whole line is in quotes. Save the file as CSV again, without quotes around lines.",
    ),
    "too_wide": _both(
        "Le fichier a plus de {limit} colonnes et n'a pas été lu. Supprimez les colonnes inutiles.",
        "The file has more than {limit} columns and was not read. Remove the columns you do not "
        "need.",
    ),
    "too_long": _both(
        "Le fichier a plus de {limit} lignes et n'a pas été lu. Divisez-le en plusieurs fichiers.",
        "The file has more than {limit} rows and was not read. Split it into several files.",
    ),
    "too_large": _both(
        "Le fichier est trop volumineux et n'a pas été lu. Divisez-le en plusieurs fichiers.",
        "The file is too large and was not read. Split it into several files.",
    ),
    "no_rows": _both(
        "Le fichier n'a aucune ligne sous ses titres. Ajoutez une ligne par élève.",
        "The file has no rows below its titles. Add one row for each pupil.",
    ),
    "encoding": _both(
        "L'encodage du texte n'a pas été reconnu. Choisissez-le, ou enregistrez le fichier en "
        "UTF-8.",
        "The text encoding was not recognised. Choose it, or save the file as UTF-8.",
    ),
    "not_in_encoding": _both(
        "Le fichier n'est pas en {encoding}. Choisissez un autre encodage.",
        "The file is not in {encoding}. Choose another encoding.",
    ),
    "mixed_encodings": _both(
        "La ligne {at} n'a pas le même encodage que les autres. Enregistrez le fichier en UTF-8.",
        "Line {at} is in another text encoding than the others. Save the file as UTF-8.",
    ),
    "oneroster": _both(
        "Les fichiers OneRoster ne sont pas complets : {what}. Exportez-les à nouveau.",
        "The OneRoster files are not complete: {what}. Export them again.",
    ),
    "no_sheet": _both(
        "Il n'y a pas de feuille visible de ce nom. Feuilles : {sheets}.",
        "There is no visible sheet of this name. Sheets: {sheets}.",
    ),
    "choose_sheet": _both(
        "Plusieurs feuilles contiennent des élèves : {sheets}. Choisissez-en une.",
        "Several sheets contain pupils: {sheets}. Choose one.",
    ),
    "cut_off": _both(
        "Des lignes sont plus courtes que les titres : une virgule décimale peut avoir décalé les "
        "autres, et aucune n'est lue. Enregistrez la liste en .xlsx ou .ods.",
        "Some lines are shorter than the titles: a decimal comma may have shifted the others, so "
        "none is read. Save the list as .xlsx or .ods.",
    ),
    "several_headers": _both(
        "La ligne {at} a d'autres titres que ceux du début. Mettez chaque tableau dans un fichier.",
        "Line {at} has other titles than those at the top. Put each table into its own file.",
    ),
    # Problems of one column.
    "twice": _both(
        "Cette colonne apparaît deux fois. Supprimez-en une.",
        "This column appears twice. Remove one of the two.",
    ),
    "shared": _both(
        "Ce titre désigne plusieurs colonnes attendues. Indiquez laquelle.",
        "This title names several expected columns. Say which one it is.",
    ),
    "no_column": _both(
        "Cette colonne est absente du fichier. Ajoutez-la, ou indiquez quelle colonne la contient.",
        "This column is missing from the file. Add it, or say which column contains it.",
    ),
    "unknown_title": _both(
        "Le fichier n'a pas de colonne de ce titre. Choisissez une de ses colonnes.",
        "The file has no column with this title. Choose one of its columns.",
    ),
    "other_scale": _both(
        "Les notes de cette colonne semblent suivre un autre barème ; aucune n'est utilisée. "
        "Convertissez-les dans le barème attendu.",
        "The grades of this column seem to follow another scale; none is used. Convert them to the "
        "expected scale.",
    ),
    "no_title": _both(
        "La colonne à droite de celle-ci contient des nombres et n'a pas de titre. Donnez un titre "
        "à chacune, ou supprimez l'une d'elles.",
        "The column to the right of this one holds numbers and has no title. Give each a title, or "
        "remove one of them.",
    ),
    # A yes is needed.
    "grades_left_out": _both(
        "Ces colonnes ressemblent à des notes, et ne seraient pas utilisées : {columns}. Indiquez "
        "ce qu'elles contiennent, ou confirmez qu'elles sont laissées de côté.",
        "These columns look like grades, and would not be used: {columns}. Say what they contain, "
        "or confirm that they are left out.",
    ),
    "no_grades": _both(
        "Le fichier n'a aucune colonne de notes ({columns}). Ajoutez-la, ou confirmez que "
        "l'estimation se fait sans les notes.",
        "The file has no grade column ({columns}). Add it, or confirm that the estimate is made "
        "without the grades.",
    ),
    # Remarks; the file is used as it is.
    "left_out": _both("Colonnes non utilisées : {columns}.", "Columns not used: {columns}."),
    "names_left_out": _both(
        "La colonne {columns} semble contenir des noms et n'est pas utilisée : le repère d'un "
        "élève est un code, jamais un nom.",
        "The column {columns} seems to contain names and is not used: a pupil's reference is a "
        "code, never a name.",
    ),
    "read_as": _both(
        "Texte lu en {encoding} : {words}. S'il est mal lu, choisissez un autre encodage.",
        "Text read as {encoding}: {words}. If it is garbled, choose another encoding.",
    ),
    "sheet": _both(
        "Feuille lue : {sheet}. Non lues : {others}.",
        "Sheet read: {sheet}. Not read: {others}.",
    ),
    "lines_above": _both(
        "Les titres sont à la ligne {at} ; ce qui est au-dessus n'est pas utilisé.",
        "The titles are on line {at}; what is above them is not used.",
    ),
    "hidden_lines": _both(
        "Des lignes ou des colonnes de la feuille sont masquées ou filtrées ; elles sont lues "
        "aussi. Supprimez-les si elles ne comptent pas.",
        "Some rows or columns of the sheet are hidden or filtered; they are read too. Remove them "
        "if they do not count.",
    ),
    "header_repeated": _both(
        "Les titres sont répétés ; ces lignes ne sont pas lues : {lines}.",
        "The titles are repeated; these lines are not read: {lines}.",
    ),
    "reference_repeated": _both(
        "Le repère {reference} apparaît plusieurs fois, aux lignes {lines}.",
        "The reference {reference} appears more than once, on lines {lines}.",
    ),
    # A row or a cell.
    "width": _both(
        "La ligne a {cells} cellules, et les titres {width}. Vérifiez les séparateurs et les "
        "virgules décimales.",
        "The row has {cells} cells, and the titles {width}. Check the separators and the decimal "
        "commas.",
    ),
    "missing": _both("La cellule est vide. Remplissez-la.", "The cell is empty. Fill it in."),
    "whole": _both(
        "Indiquez un nombre entier de {low} à {high}.",
        "Enter a whole number from {low} to {high}.",
    ),
    "number": _both(
        "Indiquez un nombre de {low} à {high} ; les décimales sont permises.",
        "Enter a number from {low} to {high}; decimals are allowed.",
    ),
    "grade": _both(
        "Indiquez une note de {low} à {high} ; les décimales sont permises.",
        "Enter a grade from {low} to {high}; decimals are allowed.",
    ),
    "choice": _both(
        "Indiquez une de ces valeurs : {choices}.", "Enter one of these values: {choices}."
    ),
    "order": _both(
        "Une note est indiquée sans celle d'avant. Indiquez les deux, la première seule, ou "
        "aucune.",
        "A grade is given without the one before it. Enter both, the first only, or neither.",
    ),
    "final_grade": _both(
        "Indiquez une note finale possible : de {low} à {high}, par pas de {step}.",
        "Enter a possible final grade: from {low} to {high}, in steps of {step}.",
    ),
    "outcome": _both(
        "Indiquez un repère (avec sa session) ou un identifiant d'estimation, et une note "
        "possible, de {low} à {high}.",
        "Enter a reference (with its session) or a prediction id, and a possible grade, from "
        "{low} to {high}.",
    ),
    "reference": _both(
        "Utilisez au plus 64 caractères, sur une ligne.",
        "Use at most 64 characters, on one line.",
    ),
    "shortened": _both(
        "Un tableur a abrégé ce nombre, et ses chiffres sont perdus. Mettez la colonne au format "
        "texte dans le fichier d'origine et enregistrez-le de nouveau.",
        "A spreadsheet program has shortened this number, and its digits are lost. Format the "
        "column as text in the original file and save it again.",
    ),
    "percent": _both(
        "La cellule est un pourcentage. Indiquez la valeur elle-même.",
        "The cell is a percentage. Enter the value itself.",
    ),
    "unit": _both(
        "Le tableur affiche un barème à côté du nombre, par exemple « /10 ». Indiquez la note elle-"
        "même, sans format particulier.",
        "The spreadsheet shows a scale beside the number, such as “/10”. Enter the grade itself, "
        "without a number format.",
    ),
    "hidden": _both(
        "Le tableur n'affiche pas le nombre de cette cellule. Effacez-le s'il n'y a pas de note, "
        "ou affichez-le.",
        "The spreadsheet does not show the number in this cell. Clear it if there is no grade, or "
        "show it.",
    ),
    "merged": _both(
        "La cellule est fusionnée avec une autre. Annulez la fusion et remplissez chaque cellule.",
        "The cell is merged with another one. Unmerge the cells and fill in each of them.",
    ),
    "formula": _both(
        "La formule n'a pas de résultat enregistré. Ouvrez le fichier dans un tableur et "
        "enregistrez-le.",
        "The formula has no saved result. Open the file in a spreadsheet program and save it.",
    ),
    "error": _both(
        "La cellule contient une erreur du tableur. Corrigez-la.",
        "The cell contains an error of the spreadsheet. Correct it.",
    ),
    "date": _both(
        "La cellule est une date. Indiquez la valeur elle-même.",
        "The cell is a date. Enter the value itself.",
    ),
    "shown_otherwise": _both(
        "Le tableur affiche cette cellule autrement qu'il ne l'enregistre. Donnez-lui le format "
        "texte.",
        "The spreadsheet shows this cell differently from what it stores. Format it as text.",
    ),
}
"""Text of each code; its placeholders are the `values` of a problem."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a table, or worth knowing about it.

    Attributes
    ----------
    line
        Line in the file, counted from 1; None if it concerns the whole column or file.
    value
        Content of the cell, shortened. Never part of `str`, which may be logged.
    """

    code: str
    line: int | None = None
    column: str = ""
    value: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> Text:
        """The problem in words."""
        text = TEXTS[self.code]
        english, french = dict(self.values), dict(self.values)
        if isinstance(limit := self.values.get("limit"), int):
            english["limit"] = f"{limit:,}"
            # A French reader takes the comma of "10,000" for a decimal comma.
            french["limit"] = english["limit"].replace(",", "\u202f")
        return Text(fr=text.fr.format_map(french), en=text.en.format_map(english))

    def __str__(self) -> str:
        place = [f"line {self.line}"] if self.line is not None else []
        place += [self.column] if self.column else []
        return ", ".join(place) + (": " if place else "") + self.text.en


class TableError(DatasetError):
    """A table cannot be read.

    Parameters
    ----------
    problem
        The reason.
    sheets
        Names of the sheets to choose from, if that is the reason.
    """

    def __init__(self, problem: Problem, *, sheets: Sequence[str] = ()) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.sheets = tuple(sheets)


def refuse(code: str, **values: Any) -> TableError:
    """Return the error for a file that cannot be read."""
    return TableError(Problem(code, values=values))
