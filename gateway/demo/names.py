"""Names for invented customers: given names and surnames common in Europe, and words for small firms."""

_FIRST_NAMES = (
    "Ada Adrien Agnes Aino Aleksander Alice Amélie Andrea Andrei Anneke Anton Astrid Beatriz Bence Björn Bruno Camille "
    "Carla Chiara Christos Clara Daan Dagmar Daniela Dario David Diego Dorota Edith Elena Elias Emil Emma Enzo Eva "
    "Femke Filip Fiona Florian Frida Gabriel Greta Gustav Hana Hanna Helena Henrik Hugo Ida Ignacio Ines Ingrid Ivan "
    "Jakub Jana Jean Joana Johan Jonas Judit Julia Kaia Karl Katarina Klara Krzysztof Lars Laura Lea Leon Lidia Linnea "
    "Lotte Louis Lucia Ludwig Luisa Magda Maja Marco Margarida Marta Mateo Matilda Matthias Mila Mirjam Niamh Nicolas "
    "Nikola Nora Olga Olivia Oscar Oskar Paula Pavel Pedro Petra Pierre Radek Rafael Rosa Ruben Sanna Sara Sebastian "
    "Simon Sofia Stefan Svenja Teresa Theo Tomas Ulrike Valeria Vera Viktor Vincent Wiktoria Yara Zofia Zoltan"
)

_SURNAMES = (
    "Aalto Almeida Andersson Bakker Barbieri Bauer Becker Berger Bianchi Blanc Borg Brandt Carvalho Castillo Claes "
    "Conti Costa Dahl Dubois Dvořák Eriksson Esposito Fabre Farkas Ferrari Fischer Fontaine Fournier Garcia Gomes "
    "Greco Gruber Haas Hansen Heikkinen Herrera Hofmann Horváth Huber Iglesias Ivanov Jansen Janssens Johansson "
    "Jørgensen Kaczmarek Kallio Keller Kelly Klein Koch Kovács Kowalski Kramer Krüger Laine Lambert Larsen Lefebvre "
    "Lehmann Lindberg Lombardi Lopes Maier Mancini Marchetti Martins Meijer Mercier Meyer Molina Moreau Mulder Murphy "
    "Navarro Neumann Nielsen Novák Nowak Olsen Ortega Papadopoulos Pereira Peters Petersen Petit Popescu Ramos Richter "
    "Rinaldi Romano Rossi Roux Ruiz Salminen Santos Schmid Schneider Schulz Serrano Silva Smit Sørensen Svoboda Szabó "
    "Tamm Torres Varga Vasquez Virtanen Visser Vogel Wagner Walsh Weber Wiśniewski Wouters Zanetti Zimmermann"
)

_TRADES = (
    "Bakery Bicycles Brewery Carpentry Ceramics Chemicals Coffee Components Dental Design Electric Engineering "
    "Farms Fisheries Florists Foods Freight Furniture Gardens Glass Instruments Interiors Joinery Labs Leather "
    "Lighting Logistics Machines Metals Mills Optics Packaging Paper Pharmacy Plumbing Press Printing Roofing "
    "Shipping Software Solar Steel Studios Textiles Timber Tools Travel Vineyards Workshop"
)

SUBJECTS = (
    "invoice",
    "salary",
    "rent",
    "consulting",
    "delivery note",
    "licence",
    "maintenance",
    "subscription",
    "insurance premium",
    "deposit",
    "freight",
    "instalment",
)

BANKS = (
    ("ALDRXXA0", "Alder Bank"),
    ("BRCHXXB0", "Birch Savings"),
    ("CEDRXXC0", "Cedar Commercial"),
    ("DOGWXXD0", "Dogwood Trust"),
    ("ELMSXXE0", "Elm & Sons"),
    ("FIRSXXF0", "First Fir Bank"),
    ("GINKXXG0", "Ginkgo Mercantile"),
    ("HAZLXXH0", "Hazel Cooperative"),
    ("IVYBXXI0", "Ivy Private Bank"),
    ("JUNIXXJ0", "Juniper Bank"),
    ("KAURXXK0", "Kauri Overseas"),
    ("LARCXXL0", "Larch Provincial"),
)
"""Invented institutions: XX is no country, and a 0 in the eighth place marks a test BIC (ISO 9362)."""

FIRST_NAMES, SURNAMES, TRADES = (tuple(words.split()) for words in (_FIRST_NAMES, _SURNAMES, _TRADES))

LISTED = (
    ("Boris Quillfeather", "individual", ("Borys Quilfether", "The Quill")),
    ("Marrowgate Shipping Holding", "entity", ("Marrowgate Lines",)),
    ("Ottoline Vantongeren-Skarsholt", "individual", ()),
    ("Zephyrhollow General Trading", "entity", ("Zephyr Hollow FZE",)),
)
"""An invented sanctions list: (name, kind, aliases). Nobody who pays in an invented day is on it."""
